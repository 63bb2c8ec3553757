// For the reader of any page: their time zone, in which the server draws times, and the button that copies a failure.

function tellZone() {
  const cookie = `zone=${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
  if (document.cookie.split("; ").includes(cookie)) return;
  document.cookie = cookie + "; path=/; max-age=31536000; samesite=lax";
  document.dispatchEvent(new Event("redraw"));
}

tellZone();
document.addEventListener("visibilitychange", tellZone);

// For an incident report: when, what, where to read on, and all that the details say.
function report(details) {
  const event = details.closest(".row, .event");
  const parts = [...event.querySelectorAll("time, .sentence"), ...details.querySelectorAll("dt, dd, .label, pre")];
  const link = event.querySelector("a.when")?.href ?? location.href;
  return [link, ...parts.map((part) => part.textContent.trim())].join("\n");
}

// Lent only to pages that came by TLS or from this machine; elsewhere there is no button.
if (navigator.clipboard) document.documentElement.dataset.clipboard = "";

document.addEventListener("click", async ({ target }) => {
  if (!target.matches("[data-copy]")) return;
  const done = navigator.clipboard.writeText(report(target.closest(".details")));
  target.nextElementSibling.textContent = await done.then(() => "Copied", () => "The browser refused");
});
