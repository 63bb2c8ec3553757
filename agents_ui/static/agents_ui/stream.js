// One stream of /events for all tabs of a browser: HTTP/1.1 has six connections, and the seventh tab would hang. The tab with
// the lock reads and tells the others. With fetch: EventSource wants all types named, and gives up for good on a 503.

const BEAT_MS = 25_000; // the server says something every 15 s at least
const SETTLED_MS = 5000; // what ends sooner counts as failed, so that nothing spins
const QUIET_MS = 3000; // a connection that is back so soon was never lost
const LOCK = "dormouse-stream";

export const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

export async function ask(url, options = {}) {
  // A stalled socket never says that it is one. A redirect can only lead to a login.
  const response = await fetch(url, { redirect: "manual", signal: AbortSignal.timeout(BEAT_MS), ...options });
  if (response.type === "opaqueredirect" || response.status === 401) finish("Signed out.");
  if (response.status === 403) finish("You may not see the events any more.");
  if (response.ok || response.status === 304) return response;
  throw Object.assign(new Error(), { waitSeconds: Number(response.headers.get("Retry-After")) });
}

const connection = document.getElementById("connection");
const said = connection.firstElementChild;
const announcer = document.getElementById("announcer");
export const held = { rows: 0, paused: false };
const others = new BroadcastChannel(LOCK);
let tab; // { url, cursor(), hear(news) }
// phase: connecting, live or lost; or `over` says why it is
let news = { phase: "connecting", cursor: 0, retryAt: 0, downSince: Date.now() };
let heard = Date.now(); // when the stream, or the tab that reads it, last said something
let turn = null; // set while this tab reads the stream
let queued = new AbortController();
let connecting = new AbortController();

export function follow(given) {
  tab = given;
  others.onmessage = ({ data }) => {
    if (data === "hello") turn && others.postMessage(news);
    else receive(data);
  };
  others.postMessage("hello");
  say();
  lead();
}

// Each second, and when the page wakes up: silence for too long is a connection that is gone.
export function check() {
  say();
  if (news.over) return;
  if (!navigator.locks) lead();
  if (Date.now() - Math.max(heard, news.retryAt) < BEAT_MS) return;
  heard = Date.now();
  const isGone = { phase: "connecting", downSince: 0 };
  if (turn) {
    tell(isGone);
    connecting.abort();
  } else {
    news = { ...news, ...isGone };
    say();
    lead(true);
  }
}

// In all tabs: asking again is useless.
function finish(message) {
  if (!news.over) tell({ over: message });
}

function tell(more) {
  receive({ ...news, reset: false, ...more });
  others.postMessage(news);
}

function receive(given) {
  const wasOver = news.over;
  heard = Date.now();
  news = given;
  say();
  tab.hear(news);
  if (wasOver && !news.over) lead(); // signed in again, in another tab
  if (!news.over) return;
  turn = null;
  queued.abort();
  connecting.abort();
}

async function lead(steal = false) {
  if (!navigator.locks) return takeTurns((await import("./turns.js")).mayRead(steal));
  queued.abort();
  const { signal } = (queued = new AbortController());
  const mine = {};
  try {
    await navigator.locks.request(LOCK, steal ? { steal } : { signal }, () => read((turn = mine)));
  } catch {
    if (signal.aborted) return;
    if (turn === mine) turn = null; // another tab took it
    connecting.abort();
    lead();
  }
}

function takeTurns(isMine) {
  if (isMine && !turn) read((turn = {}));
  if (isMine || !turn) return;
  turn = null;
  connecting.abort();
}

async function read(mine) {
  for (let failures = 0; turn === mine; ) {
    const began = Date.now();
    let wait = 0;
    let planned = false;
    try {
      planned = await readOnce();
    } catch (error) {
      if (news.over) return pause(1); // with the lock, until the others have heard
      if (turn !== mine) return;
      wait = Math.min(error.waitSeconds || 0, 60);
    }
    if (turn !== mine) return;
    if (Date.now() - began > SETTLED_MS) failures = 0;
    if (failures || !planned) wait = Math.max(wait, Math.min(2 ** failures, 30) * (0.25 + Math.random() / 2));
    const downSince = news.phase === "live" ? Date.now() : news.downSince;
    tell({ phase: "lost", downSince, retryAt: Date.now() + wait * 1000 });
    await pause(wait);
    failures += 1;
  }
}

// Reads to the end of a connection. True if the server had announced it.
async function readOnce() {
  const { signal } = (connecting = new AbortController());
  // After another tab, live is live until its beat would be overdue.
  const downSince = news.phase === "live" ? Math.min(Date.now(), heard + BEAT_MS - QUIET_MS) : news.downSince;
  tell({ phase: "connecting", downSince });
  const response = await ask(`${tab.url}?after=${tab.cursor()}`, { signal, cache: "no-store" });
  for await (const blocks of events(response.body)) {
    heard = Date.now();
    if (!blocks.length) continue;
    const types = blocks.map((block) => block.match(/^event: ?(.*)$/m)?.[1]);
    const id = blocks.at(-1).match(/^id: ?(\d+)/m)?.[1];
    tell({ phase: "live", cursor: Number(id ?? news.cursor), reset: types.includes("stream-reset"), retryAt: 0 });
    if (types.includes("stream-end")) return true;
  }
  return false;
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    yield blocks;
  }
}

function words(before) {
  const left = Math.ceil((news.retryAt - Date.now()) / 1000);
  const isQuiet = Date.now() - news.downSince < QUIET_MS;
  if (news.over) return ["over", news.over];
  if (held.paused) return ["paused", "Live updates paused"];
  if (news.phase === "live") return ["live", "Live"];
  if (isQuiet) return before === "live" ? ["live", "Live"] : ["connecting", "Connecting…"];
  if (news.phase === "lost" && left > 0) return ["lost", `Connection lost. Retrying in ${left} s`];
  return ["lost", "Connecting…"];
}

export function say() {
  const before = connection.dataset.state;
  const [state, text] = words(before);
  if (said.textContent !== text) said.textContent = text;
  if (state === before) return;
  connection.dataset.state = state;
  connection.lastElementChild.hidden = state !== "over";
  const pauseButton = document.getElementById("pause");
  if (state === "over" && pauseButton === document.activeElement) connection.lastElementChild.focus();
  pauseButton.hidden = state === "over";
  if (state === "over") announce(connection.innerText);
  if (state === "lost" && (before === "live" || news.phase === "lost")) announce("Connection lost");
  if (state === "live" && before === "lost") announce("Live again");
}

// At most one thing a second, the last of a burst.
let next = "";
let isSpeaking = false;

export async function announce(text) {
  next = text;
  if (isSpeaking || document.hidden) return;
  isSpeaking = true;
  for (; next; await pause(1)) {
    announcer.textContent = announcer.textContent === next ? `${next}\u00a0` : next; // the same again is not read out
    next = "";
  }
  isSpeaking = false;
}
