/* Renews the page in place: what has the focus keeps it, and nothing jumps. Where the receiver gives no
   answer, the page says since when it is out of date; an old number must not look like a new one. */
"use strict";
(() => {
  const every = 1000 * Number(document.body.dataset.renew);
  if (!every) return;
  const stale = document.createElement("p");
  stale.id = "stale";
  stale.setAttribute("role", "alert");
  const seen = () => document.querySelector("header time").textContent;
  let timer = 0, busy = false;

  function later() {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(renew, every);
  }

  async function renew() {
    if (busy) return;
    busy = true;
    let page = null, why = "no answer";
    try {
      const answer = await fetch(location.origin + location.pathname, { cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (answer.ok) page = new DOMParser().parseFromString(await answer.text(), "text/html");
      else why = "it answers " + answer.status;
    } catch (error) { /* said below */ }
    if (page && page.querySelector("main")) {
      stale.remove();
      Idiomorph.morph(document.querySelector("main"), page.querySelector("main"));
      Idiomorph.morph(document.querySelector("header"), page.querySelector("header"));
      document.title = page.title;
    } else {
      stale.textContent = "This page shows the state at " + seen() + ". The receiver cannot be reached (" + why + "); retrying.";
      if (!stale.isConnected) document.querySelector("main").before(stale);
    }
    busy = false;
    later();
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : renew()));
  document.getElementById("renews").textContent = "This page updates every " + every / 1000 + " s";
  later();
})();
