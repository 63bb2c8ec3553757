import { EventSource } from "eventsource";

const [url, token, ...types] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${token}` };
const source = new EventSource(url, {
  fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...headers } }),
});
for (const type of types) {
  source.addEventListener(type, (event) => console.log(event.type, event.lastEventId));
}
