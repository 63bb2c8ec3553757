// One stream of /events for all tabs of a browser. HTTP/1.1 allows six connections to a server, and a seventh tab would hang, so
// the tabs elect a leader: it holds a lock, reads the stream, and broadcasts the state to the other tabs.
// The stream is read with fetch, because EventSource needs the name of every event type, and gives up for good on a 503.

const SILENCE_MS = 25_000; // the server sends something at least every 15 s, so after this the connection is gone
const SETTLED_MS = 5000; // a connection that ends sooner counts as failed, so that retries have a pause
const QUIET_MS = 3000; // a connection that is back sooner is not shown as lost
const POLL_MS = 10_000; // without a stream for this long, the page asks for rows, and again after each such time
// Each installation has its own, because several may share an address.
const LOCK = `dormouse-stream${document.documentElement.dataset.basePath}`;

export const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

export async function ask(url, options = {}) {
  // The timeout is needed because a stalled socket reports no error. A redirect can only lead to the login.
  const response = await fetch(url, { redirect: "manual", signal: AbortSignal.timeout(SILENCE_MS), ...options });
  if (response.type === "opaqueredirect" || response.status === 401) stopForGood("Signed out.");
  if (response.status === 403) stopForGood("You may not see the events any more.");
  if (response.ok || response.status === 304) return response;
  throw Object.assign(new Error(), { status: response.status, waitSeconds: Number(response.headers.get("Retry-After")) });
}

const connection = document.getElementById("connection");
const label = connection.firstElementChild;
const announcer = document.getElementById("announcer");
export const held = { rows: 0, failures: 0, paused: false };
const troubles = new Map(); // what could not be fetched, and why
const otherTabs = new BroadcastChannel(LOCK);
let tab; // what follow() was given: { url, cursor(), onState(state) }
// phase is connecting, live or lost. `over` is a sentence that says why the stream has stopped for good.
let state = { phase: "connecting", cursor: 0, retryAt: 0, downSince: Date.now() };
let heardAt = Date.now(); // when the stream or the leader last sent something
let polledAt = 0; // when rows were last asked for without a stream, and came
let leadership = null; // an object while this tab is the leader
let isAlone = false; // whether the browser offers neither locks nor storage, so that this tab reads a stream of its own
let waitingForLock = new AbortController();
let connecting = new AbortController();

export function follow(given) {
  tab = given;
  otherTabs.onmessage = ({ data }) => {
    if (data === "hello") leadership && otherTabs.postMessage(state);
    else receive(data);
  };
  otherTabs.postMessage("hello");
  showState();
  joinElection();
}

// Runs each second, and when the page becomes visible. After too long a silence the connection is replaced.
export function check() {
  showState();
  if (state.over) return;
  if (!navigator.locks && !isAlone) joinElection();
  if (Date.now() - Math.max(heardAt, state.retryAt) < SILENCE_MS) return;
  heardAt = Date.now();
  const gone = { phase: "connecting", downSince: 0 };
  if (leadership) {
    publish(gone);
    connecting.abort();
  } else {
    state = { ...state, ...gone };
    showState();
    joinElection(true);
  }
}

// Stops the stream in all tabs, because trying again would not help.
function stopForGood(message) {
  if (!state.over) publish({ over: message });
}

function publish(changes) {
  receive({ ...state, reset: false, ...changes });
  if (!isAlone) otherTabs.postMessage(state);
}

// Returns whether rows must be asked for, because no stream has told of them for a while.
export function mustPoll() {
  return !state.over && !held.paused && state.phase !== "live" && Date.now() - Math.max(state.downSince, polledAt) >= POLL_MS;
}

// Remembers whether `what` could be fetched. `error` is what ask() threw, or nothing.
export function noteFetch(what, error) {
  if (error) troubles.set(what, error.status ? ` (${error.status})` : "");
  else troubles.delete(what);
  if (!error && what === "Events" && state.phase !== "live") polledAt = Date.now();
  showState();
}

function receive(given) {
  const wasOver = state.over;
  heardAt = Date.now();
  state = given;
  showState();
  tab.onState(state);
  if (wasOver && !state.over) joinElection(); // the reader has signed in again, in another tab
  if (!state.over) return;
  leadership = null;
  waitingForLock.abort();
  connecting.abort();
}

async function joinElection(steal = false) {
  if (isAlone) return;
  if (!navigator.locks) {
    const { isLeader } = await import("./leader.js");
    try {
      return joinElectionWithoutLocks(isLeader(steal));
    } catch {
      return readAlone(); // the browser denies localStorage
    }
  }
  waitingForLock.abort();
  const { signal } = (waitingForLock = new AbortController());
  const mine = {};
  try {
    await navigator.locks.request(LOCK, steal ? { steal } : { signal }, () => read((leadership = mine)));
  } catch (error) {
    if (signal.aborted) return;
    if (error.name !== "AbortError") return readAlone(); // the browser denies the lock
    if (leadership === mine) leadership = null; // another tab stole the lock
    connecting.abort();
    joinElection();
  }
}

// Reads a stream for this tab alone, because the browser offers nothing to elect a leader with.
function readAlone() {
  isAlone = true;
  otherTabs.close();
  read((leadership = {}));
}

function joinElectionWithoutLocks(isLeader) {
  if (isLeader && !leadership) read((leadership = {}));
  if (isLeader || !leadership) return;
  leadership = null;
  connecting.abort();
}

// Reads connection after connection, as long as this tab is the leader. Pauses grow with each failure.
async function read(mine) {
  for (let failures = 0; leadership === mine; ) {
    const began = Date.now();
    let wait = 0;
    let wasPlanned = false;
    try {
      wasPlanned = await readConnection();
    } catch (error) {
      if (state.over) return pause(1); // keeps the lock until the other tabs have received the state
      if (leadership !== mine) return;
      wait = Math.min(error.waitSeconds || 0, 60);
    }
    if (leadership !== mine) return;
    if (Date.now() - began > SETTLED_MS) failures = 0;
    if (failures || !wasPlanned) wait = Math.max(wait, Math.min(2 ** failures, 30) * (0.25 + Math.random() / 2));
    const downSince = state.phase === "live" ? Date.now() : state.downSince;
    publish({ phase: "lost", downSince, retryAt: Date.now() + wait * 1000 });
    await pause(wait);
    failures += 1;
  }
}

// Reads one connection to its end. Returns whether the server had announced the end.
async function readConnection() {
  const { signal } = (connecting = new AbortController());
  // A new leader shows "live" until the old leader's next message would be overdue.
  const downSince = state.phase === "live" ? Math.min(Date.now(), heardAt + SILENCE_MS - QUIET_MS) : state.downSince;
  publish({ phase: "connecting", downSince });
  const response = await ask(`${tab.url}?after=${tab.cursor()}`, { signal, cache: "no-store" });
  for await (const blocks of events(response.body)) {
    heardAt = Date.now();
    if (!blocks.length) continue;
    const types = blocks.map((block) => block.match(/^event: ?(.*)$/m)?.[1]);
    const id = blocks.at(-1).match(/^id: ?(\d+)/m)?.[1];
    publish({ phase: "live", cursor: Number(id ?? state.cursor), reset: types.includes("stream-reset"), retryAt: 0 });
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

// Returns what the page shows: the state's name and its text. `before` is the name shown until now.
function describeState(before) {
  const secondsLeft = Math.ceil((state.retryAt - Date.now()) / 1000);
  const isQuiet = Date.now() - state.downSince < QUIET_MS;
  if (state.over) return ["over", state.over];
  if (held.paused) return ["paused", "Live updates paused"];
  const [trouble] = troubles;
  if (trouble && (state.phase === "live" || Date.now() - polledAt < 2 * POLL_MS)) {
    return ["stale", `${trouble[0]} cannot be fetched${trouble[1]}. Retrying`];
  }
  if (state.phase === "live") return ["live", "Live"];
  if (isQuiet) return before === "live" ? ["live", "Live"] : ["connecting", "Connecting…"];
  if (Date.now() - polledAt < 2 * POLL_MS) return ["polling", `No live stream. Updated every ${POLL_MS / 1000} s`];
  if (state.phase === "lost" && secondsLeft > 0) return ["lost", `Connection lost. Retrying in ${secondsLeft} s`];
  return ["lost", "Connecting…"];
}

export function showState() {
  const before = connection.dataset.state;
  const [name, text] = describeState(before);
  if (label.textContent !== text) label.textContent = text;
  if (name === before) return;
  connection.dataset.state = name;
  connection.lastElementChild.hidden = name !== "over";
  const pauseButton = document.getElementById("pause");
  if (name === "over" && pauseButton === document.activeElement) connection.lastElementChild.focus();
  pauseButton.hidden = name === "over";
  if (["over", "polling", "stale"].includes(name)) announce(connection.innerText);
  if (name === "lost" && (before === "live" || state.phase === "lost")) announce("Connection lost");
  if (name === "live" && ["lost", "polling", "stale"].includes(before)) announce("Live again");
}

// Screen readers get at most one announcement a second: the last one of a burst.
let next = "";
let isAnnouncing = false;

export async function announce(text) {
  next = text;
  if (isAnnouncing || document.hidden) return;
  isAnnouncing = true;
  for (; next; await pause(1)) {
    announcer.textContent = announcer.textContent === next ? `${next}\u00a0` : next; // the same text is not read out twice
    next = "";
  }
  isAnnouncing = false;
}
