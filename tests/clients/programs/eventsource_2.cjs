const EventSource = require("eventsource-2");

const [url, token, ...types] = process.argv.slice(2);
const source = new EventSource(url, { headers: { Authorization: `Bearer ${token}` } });
for (const type of types) {
  source.addEventListener(type, (event) => console.log(event.type, event.lastEventId));
}
