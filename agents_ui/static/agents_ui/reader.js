// For every page: tells the server the reader's time zone, keeps what is opened, and copies the details of a failure.

function sendZone() {
  const cookie = `zone=${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
  if (document.cookie.split("; ").includes(cookie)) return;
  document.cookie = `${cookie}; path=${document.documentElement.dataset.basePath || "/"}; max-age=31536000; samesite=lax`;
  if (!document.cookie.split("; ").includes(cookie)) return; // the browser keeps no cookies
  document.dispatchEvent(new Event("zone"));
}

sendZone();
document.addEventListener("visibilitychange", sendZone);

// What is opened is kept in the entry of the browser's history, so that Back and reload open it again.
const keyOf = (details) => details.closest("[data-id]")?.dataset.id ?? (details.id || details.className);

function open() {
  const keys = history.state?.open ?? [];
  for (const details of document.querySelectorAll("details")) details.open ||= keys.includes(keyOf(details));
}

function keepOpen({ target }) {
  const others = (history.state?.open ?? []).filter((key) => key !== keyOf(target));
  history.replaceState({ ...history.state, open: target.open ? [...others, keyOf(target)] : others }, "");
}

for (const target of document.querySelectorAll("details[open]")) keepOpen({ target }); // opened before this module was loaded
open();
document.addEventListener("redrawn", open);
document.addEventListener("toggle", keepOpen, true);

// On paper the page says when it was printed.
addEventListener("beforeprint", () => {
  const printed = document.querySelector(".printed time");
  if (printed) printed.textContent = new Date().toLocaleString("sv", { dateStyle: "short", timeStyle: "long" }); // 2026-11-26 14:02:11 CET
});

// Returns a text for an incident report: the address, the time, the sentence, and all details.
function report(details) {
  const event = details.closest(".row, .event");
  const parts = [...event.querySelectorAll("time, .sentence"), ...details.querySelectorAll("dt, dd, .label, pre")];
  const link = event.querySelector("a.when")?.href ?? event.dataset.url;
  return [link, ...parts.map((part) => part.textContent.trim())].join("\n");
}

// If a row shows shortened details, the complete ones are fetched from the event's own page.
async function completeReport(details) {
  const link = details.querySelector("a[data-whole]");
  if (!link) return report(details);
  const response = await fetch(link.href, { redirect: "error" });
  if (!response.ok) throw new Error(response.status);
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  page.querySelector(".event").dataset.url = link.href;
  return report(page.querySelector(".details"));
}

// Browsers offer the clipboard only to pages that came by TLS or from this machine. On others there is no button.
if (navigator.clipboard) document.documentElement.dataset.clipboard = "";

document.addEventListener("click", async ({ target }) => {
  if (!target.matches("[data-copy]")) return;
  const text = completeReport(target.closest(".details")).then((text) => new Blob([text], { type: "text/plain" }));
  const done = navigator.clipboard.write([new ClipboardItem({ "text/plain": text })]);
  target.nextElementSibling.textContent = await done.then(() => "Copied", () => "That could not be copied");
});
