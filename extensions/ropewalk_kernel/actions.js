// Buttons of a run beside its picture. They are hidden until their kernel answers, and when it is gone: a saved or
// exported notebook shows the picture alone. Not here: the picture, which is an ordinary output that needs no script.
const BUSY = 1500;

async function copy(text, root) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // A page that is not on a secure origin has no clipboard.
    const box = document.createElement("textarea");
    box.value = text;
    root.append(box);
    box.select();
    const done = document.execCommand("copy");
    box.remove();
    return done;
  }
}

// The picture is drawn again as its run goes on: what a person unfolded stays so, and the focus stays where it was.
function keep(area) {
  const open = new Map();
  let focused = null;
  const key = (node) => node?.closest?.("details[data-rw]")?.dataset.rw;
  const toggled = (event) => { if (event.target.dataset?.rw) open.set(event.target.dataset.rw, event.target.open); };
  const entered = (event) => { focused = event.target.matches?.("summary") ? key(event.target) : null; };
  const left = (event) => { if (event.target.isConnected) focused = null; };
  const redrawn = new MutationObserver(() => {
    for (const one of area.querySelectorAll("details[data-rw]")) {
      const wanted = open.get(one.dataset.rw);
      if (wanted !== undefined && one.open !== wanted) one.open = wanted;
      if (one.dataset.rw === focused && !area.contains(document.activeElement)) one.querySelector("summary")?.focus();
    }
  });
  // JupyterLab takes Enter anywhere in a notebook for "edit this cell"; on something that can be pressed it is a press.
  const pressed = (event) => {
    if (event.key !== "Enter" || !area.contains(event.target) || !event.target.matches("summary, a, button")) return;
    event.target.dataset.lmSuppressShortcuts = "true";
    setTimeout(() => { delete event.target.dataset.lmSuppressShortcuts; });
  };
  window.addEventListener("keydown", pressed, true);
  area.addEventListener("toggle", toggled, true);
  area.addEventListener("focusin", entered);
  area.addEventListener("focusout", left);
  redrawn.observe(area, { childList: true, subtree: true });
  return () => {
    redrawn.disconnect();
    window.removeEventListener("keydown", pressed, true);
    area.removeEventListener("toggle", toggled, true);
    area.removeEventListener("focusin", entered);
    area.removeEventListener("focusout", left);
  };
}

// A kernel that ends says nothing; its connection, where the page lets us see it, does.
function attend(model, lost, found) {
  const kernel = model.widget_manager?.kernel;
  if (!kernel?.connectionStatusChanged) return () => {};
  const changed = () => (kernel.connectionStatus === "connected" ? found() : lost());
  kernel.connectionStatusChanged.connect(changed);
  kernel.disposed.connect(lost);
  return () => {
    kernel.connectionStatusChanged.disconnect(changed);
    kernel.disposed.disconnect(lost);
  };
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "rw-actions";
  root.setAttribute("role", "toolbar");
  root.setAttribute("aria-label", `Actions of ${model.get("name")}`);
  root.hidden = true;
  const buttons = document.createElement("span");
  const line = document.createElement("span");
  line.className = "rw-said";
  line.setAttribute("role", "status");
  root.append(buttons, line);
  el.append(root);
  let waiting = null;

  function draw() {
    const before = root.contains(document.activeElement) ? document.activeElement.dataset.act : "";
    buttons.replaceChildren(...model.get("acts").map((act) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.act = act.id;
      button.textContent = act.label;
      button.className = act.risk ? "rw-risk" : "";
      button.addEventListener("click", () => ask(act));
      return button;
    }));
    if (before) (buttons.querySelector(`[data-act="${before}"]`) ?? buttons.firstElementChild)?.focus();
  }

  function ask(act) {
    clearTimeout(waiting);
    line.textContent = `${act.label} …`;
    waiting = setTimeout(() => {
      line.textContent = `${act.label}: the kernel is busy and does it when it is free. The dashboard can do it now.`;
    }, BUSY);
    model.send({ act: act.id });
  }

  async function heard(message) {
    root.hidden = false;
    if (message.said === undefined) return;
    clearTimeout(waiting);
    const done = message.text ? await copy(message.text, root) : true;
    line.textContent = done ? message.said : "This browser does not let a page copy. Open it on the dashboard.";
  }

  let ended = false;
  const hide = () => { root.hidden = true; };
  const gone = () => { ended = true; hide(); };
  const greet = () => { if (!ended) model.send({ act: "" }); };
  model.on("msg:custom", heard);
  model.on("change:acts", draw);
  model.on("comm_live_update", gone);
  draw();
  greet();
  const leave = attend(model, hide, greet);
  const area = el.closest(".jp-OutputArea");
  let forget = area ? keep(area) : null;
  if (!area) requestAnimationFrame(() => { const late = el.closest(".jp-OutputArea"); if (late) forget = keep(late); });
  return () => {
    clearTimeout(waiting);
    leave();
    forget?.();
    model.off("msg:custom", heard);
    model.off("change:acts", draw);
    model.off("comm_live_update", gone);
  };
}

export default { render };
