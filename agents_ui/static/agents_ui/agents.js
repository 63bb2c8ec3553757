// The Agents page, live. The stream is only a hint that the log has grown: the rows come from the server, after the cursor.
import { announce, ask, check, follow, held, pause, say } from "./stream.js";

const REFRESH_SECONDS = 10;
const MOST_ROWS = 500;
const MOST_HELD = 100;
const MOST_TINTED = 10;

const timeline = document.getElementById("timeline");
const feed = document.getElementById("feed");
const button = document.getElementById("show");
const instances = document.getElementById("instances");
const pauseButton = document.getElementById("pause");
const icon = document.querySelector("link[rel=icon]");
const parsed = (html) => new DOMParser().parseFromString(html, "text/html");
const plain = { title: document.title, icon: icon.href };

let cursor = Number(timeline.dataset.cursor);
let isOver = false;
let failures = 0; // that nobody has seen, in a hidden tab

let fragments = []; // oldest first; none beyond MOST_HELD

// Whether somebody reads in the list, so that nothing there may move.
function isRead() {
  const selection = getSelection();
  return (
    held.paused ||
    document.hidden ||
    feed.getBoundingClientRect().top < 0 ||
    timeline.contains(document.activeElement) ||
    document.activeElement === button ||
    (matchMedia("(hover)").matches && feed.matches(":hover")) || // a finger hovers until the next tap
    (!selection.isCollapsed && selection.containsNode(timeline, true))
  );
}

function take(days, count) {
  fragments.push(days);
  held.rows += count;
  showIfUnread();
  if (held.rows > MOST_HELD) fragments = [];
}

function showIfUnread() {
  if (held.rows && !isRead()) show();
  button.hidden = !held.rows;
  button.textContent = `Show ${held.rows} new event${held.rows === 1 ? "" : "s"}`;
}

function show() {
  if (!fragments.length) return document.dispatchEvent(new Event("redraw")); // too many to put in
  document.getElementById("empty")?.remove();
  timeline.toggleAttribute("data-live", held.rows <= MOST_TINTED); // what arrives is tinted for a moment; no crowd is
  for (const days of fragments) [...days.querySelectorAll(".day")].reverse().forEach(prepend);
  trim();
  forget();
}

function forget() {
  fragments = [];
  held.rows = 0;
  button.hidden = true;
}

function prepend(day) {
  const newest = timeline.querySelector(".day");
  if (newest?.dataset.day === day.dataset.day) newest.querySelector(".rows").prepend(...day.querySelectorAll(".row"));
  else timeline.prepend(day);
}

function trim() {
  const rows = [...timeline.querySelectorAll(".row")];
  if (rows.length <= MOST_ROWS) return;
  for (const row of rows.slice(MOST_ROWS)) row.remove();
  for (const day of timeline.querySelectorAll(".day:not(:has(.row))")) day.remove();
  const older = document.getElementById("older");
  older.href = older.href.replace(/\d+$/, rows[MOST_ROWS - 1].dataset.id);
  older.parentElement.hidden = false;
}

let reader;

function hear(news) {
  isOver = news.over;
  // It can wait until the stream is there; where the server goes away just then, for the next word from it.
  reader ??= import("./reader.js").catch(() => (reader = undefined));
  if (news.phase === "live" && (news.reset || news.cursor > cursor)) catchUp();
}

async function fetchRows() {
  const url = new URL(timeline.dataset.url, location.href);
  const after = cursor;
  url.searchParams.set("after", after);
  const response = await ask(url);
  const days = parsed(await response.text());
  if (after !== cursor) return true; // the page was drawn anew meanwhile
  cursor = Number(response.headers.get("Dormouse-Cursor"));
  const rows = days.querySelectorAll(".row");
  if (rows.length) {
    take(days, rows.length);
    if (document.hidden) count(days.querySelectorAll(".row.alert").length);
    if (!held.paused) announce(rows[1] ? `${rows.length} new events` : rows[0].querySelector(".sentence").textContent);
  }
  return response.headers.get("Dormouse-More") === "true";
}

let isCatchingUp = false;
let isBehind = false;

// One at a time, and at most one a second in a burst.
async function catchUp() {
  isBehind = true;
  if (isCatchingUp) return;
  isCatchingUp = true;
  while (isBehind && !isOver) {
    isBehind = false; // before asking: what comes meanwhile is asked for again
    try {
      if (await fetchRows()) isBehind = true;
    } catch {
      isBehind = true;
    }
    refresh();
    await pause(1);
  }
  isCatchingUp = false;
}

let tag = "";

// Starts, leases and what others stop make no events.
async function refresh() {
  if (isOver || held.paused || document.hidden) return;
  try {
    const response = await ask(instances.dataset.url, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    if (response.status === 304) return;
    tag = response.headers.get("ETag");
    const drawn = parsed(await response.text()).body;
    if (drawn.innerHTML.trim() === instances.innerHTML.trim()) return; // the first time there is no tag yet
    const id = instances.contains(document.activeElement) && document.activeElement.id;
    instances.replaceChildren(...drawn.children);
    const again = document.getElementById(id) ?? document.getElementById("instances-heading");
    if (id !== false) again.focus({ preventScroll: true });
  } catch {} // the stream says that the server is gone
}

// In another zone, or when too much was held to put in.
async function redraw() {
  const response = await ask(location.href).catch(() => {});
  if (!response) return;
  const page = parsed(await response.text()).getElementById("timeline");
  timeline.replaceChildren(...page.children);
  cursor = Number(page.dataset.cursor);
  forget();
  catchUp();
}

function count(more) {
  failures += more;
  document.title = failures ? `(${failures}) ${plain.title}` : plain.title;
  icon.href = failures ? icon.dataset.alert : plain.icon;
}

function wake() {
  check();
  if (document.hidden) return;
  count(-failures);
  refresh();
}

pauseButton.addEventListener("click", () => {
  held.paused = !held.paused;
  pauseButton.textContent = held.paused ? "Resume live updates" : "Pause live updates";
  say();
  showIfUnread();
  refresh();
});
document.addEventListener("visibilitychange", wake);
button.addEventListener("click", () => {
  document.getElementById("activity-heading").focus();
  show();
});

feed.addEventListener("pointerleave", showIfUnread);
feed.addEventListener("focusout", () => setTimeout(showIfUnread));
for (const change of ["selectionchange", "visibilitychange", "scrollend"]) document.addEventListener(change, showIfUnread);
document.addEventListener("redraw", redraw);
setInterval(check, 1000);
setInterval(refresh, REFRESH_SECONDS * 1000);
pauseButton.disabled = false;
follow({ url: timeline.dataset.stream, cursor: () => cursor, hear });
