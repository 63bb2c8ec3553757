// Which tab reads the stream, on plain HTTP, where a browser has no locks: the one that says so each second, where all see it.
const KEY = "dormouse-stream";
const LEASE_MS = 5000;
const me = String(Math.random());

export function mayRead(steal) {
  const [reader, until] = (localStorage.getItem(KEY) ?? "").split(" ");
  const isMine = reader === me || steal || !(Number(until) > Date.now());
  if (isMine) localStorage.setItem(KEY, `${me} ${Date.now() + LEASE_MS}`);
  return isMine;
}

addEventListener("pagehide", () => {
  if (localStorage.getItem(KEY)?.startsWith(me)) localStorage.removeItem(KEY);
});
