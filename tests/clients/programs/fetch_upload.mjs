// Node's fetch with a body that is made while it is sent.
const [url, token, megabytes] = process.argv.slice(2)
const part = new Uint8Array(1024 * 1024).fill(120)
let left = Number(megabytes)
const body = new ReadableStream({
  pull(controller) {
    if (left-- > 0) controller.enqueue(part)
    else controller.close()
  },
})
const headers = { Authorization: `Bearer ${token}` }
const answer = await fetch(url, { method: "POST", headers, body, duplex: "half" })
console.log(answer.status, await answer.text())
