// Go's HTTP client with a body of unknown length, then two requests on the connection that it keeps.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
)

func ask(method, url, token string, body io.Reader) {
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		panic(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		panic(err)
	}
	fmt.Println(answer.StatusCode, string(text))
}

func main() {
	url, token := os.Args[1], os.Args[2]
	megabytes, _ := strconv.Atoi(os.Args[3])
	reader, writer := io.Pipe()
	go func() {
		for i := 0; i < megabytes; i++ {
			writer.Write([]byte(strings.Repeat("x", 1024*1024)))
		}
		writer.Close()
	}()
	ask("POST", url, token, reader)
	ask("PUT", url, token, strings.NewReader("short"))
	ask("GET", url, token, nil)
}
