// Leader election between tabs on plain HTTP, where browsers offer no locks: the leader renews a lease in localStorage each second.
const KEY = `dormouse-stream${document.documentElement.dataset.basePath}`;
const LEASE_MS = 5000;
const me = String(Math.random());

export function isLeader(steal) {
  const [leader, until] = (localStorage.getItem(KEY) ?? "").split(" ");
  const isMine = leader === me || steal || !(Number(until) > Date.now());
  if (isMine) localStorage.setItem(KEY, `${me} ${Date.now() + LEASE_MS}`);
  return isMine;
}

addEventListener("pagehide", () => {
  try {
    if (localStorage.getItem(KEY)?.startsWith(me)) localStorage.removeItem(KEY);
  } catch {
    // the browser denies localStorage, and no lease is kept in it
  }
});
