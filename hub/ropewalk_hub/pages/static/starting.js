// The hub's page of a notebook that starts: shows how far it is, and goes on when it answers.
"use strict";

(() => {
  const part = document.querySelector("[data-starting]");
  const said = part.querySelector("[role=status]");
  const bar = part.querySelector("progress");
  const source = new EventSource(part.dataset.starting);
  // A hub that is started again ends the stream with an answer after which no browser asks anew.
  const again = () => {
    said.textContent = "A part of the platform is being started again; this page goes on when it is back.";
    setTimeout(async () => {
      const answer = await fetch(location.href, { redirect: "manual" }).catch(() => null);
      if (answer && answer.status < 500) location.reload();
      else again();
    }, 2000);
  };
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) again();
  });
  source.addEventListener("message", (event) => {
    const now = JSON.parse(event.data);
    if (typeof now.progress === "number") bar.value = now.progress;
    if (now.ready || now.failed) source.close();
    if (now.ready) {
      said.textContent = "It is ready.";
      location.reload();
    } else if (now.failed) {
      bar.remove();
      part.querySelector("h1").textContent = "Your notebook did not start";
      said.textContent = now.message || "Its log says why.";
    }
  });
})();
