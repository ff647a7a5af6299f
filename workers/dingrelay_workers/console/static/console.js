// Renews a page that is live: only where it is seen, and not while something in it is selected or typed.
// Without this script every page works, and is as old as it was asked for.
"use strict";
const main = document.querySelector("main[data-live]");
if (main) {
  const stale = document.getElementById("stale");
  let tag = "";
  const busy = () =>
    document.visibilityState !== "visible" ||
    String(getSelection()) !== "" ||
    main.querySelector("details[open], dialog[open]") ||
    main.contains(document.activeElement) ||
    main.matches(":hover:has(a:hover)");
  const renew = async () => {
    if (busy()) return;
    try {
      const answer = await fetch(location.href, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      if (answer.status === 304) { stale.hidden = true; return; }
      if (answer.redirected) { location.reload(); return; }
      if (!answer.ok) throw new Error(answer.status);
      tag = answer.headers.get("ETag") || "";
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("main");
      if (fresh && !busy()) {
        main.replaceChildren(...fresh.childNodes);
        if (!("live" in fresh.dataset)) clearInterval(timer);
        stale.hidden = true;
      }
    } catch {
      stale.hidden = false;
    }
  };
  const timer = setInterval(renew, 1000 * Number(main.dataset.live));
}
