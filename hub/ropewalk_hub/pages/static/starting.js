// The hub's page of a notebook that starts: shows how far it is, and goes on when it answers.
"use strict";

(() => {
  const part = document.querySelector("[data-starting]");
  const said = part.querySelector("[role=status]");
  const bar = part.querySelector("progress");
  const source = new EventSource(part.dataset.starting);
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
