// The jobs tray: a row a job, newest first, with what can be done about it.

const STATES = { queued: "waiting", running: "running", paused: "paused", done: "done", cancelled: "stopped", failed: "failed" };

function jobLine(job) {
  const points = job.before != null && job.after != null ? 100 * (job.after - job.before) : null;
  if (job.state === "failed") return job.error;
  if (job.state === "queued") return "waits for a core";
  if (job.state === "done") {
    const came = points == null ? "" : `${percent(job.before, 2)} → ${percent(job.after, 2)}, ${points >= 0 ? "+" : "−"}${number(Math.abs(points), 2)} points`;
    return `${came}, took ${duration(job.seconds)}${job.applied ? " · in the recipe" : ""}`;
  }
  if (job.state === "cancelled") return "stopped; started again, it goes on from there";
  const left = job.left == null || job.share === 0 ? "measuring the first epoch" : `about ${duration(job.left)} left`;
  return `${job.doing ? `${job.doing} · ` : ""}${number(100 * job.share, 0)} %${job.state === "paused" ? " · paused" : ` · ${left}`}`;
}

function jobRow(send, toggle) {
  const shown = element("input", { type: "checkbox" });
  const name = element("span", { class: "wb-job-name" });
  const base = element("span", { class: "wb-job-base wb-muted" });
  const bar = element("span", { class: "wb-progress", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, element("i"));
  const line = element("span", { class: "wb-job-line wb-muted" });
  const note = element("span", { class: "wb-job-note" });
  const [pause, stop, apply, remove] = [button("Pause"), button("Stop"), button("Apply"), button("×", { class: "wb-remove" })];
  const root = element("li", { class: "wb-job" },
    element("label", { class: "wb-job-head" }, shown, name), base,
    element("span", { class: "wb-job-acts" }, pause, stop, apply, remove), bar, line, note);
  let job = {};
  shown.addEventListener("change", () => toggle(job.id, shown.checked));
  pause.addEventListener("click", () => send(job.state === "paused" ? "resume" : "pause", job.id));
  stop.addEventListener("click", () => send("cancel", job.id));
  apply.addEventListener("click", () => send("apply", job.id));
  remove.addEventListener("click", () => send("remove", job.id));
  const show = (next, isShown, drawn) => {
    job = next;
    const over = ["done", "cancelled", "failed"].includes(job.state);
    root.style.setProperty("--wb-series", seriesOf(job.id));
    root.dataset.state = job.state;
    setText(name, job.title);
    setText(base, `from ${job.base} · ${STATES[job.state]}`);
    setText(line, jobLine(job));
    setText(note, job.note);
    note.hidden = !job.note;
    shown.checked = isShown;
    shown.disabled = !drawn;
    shown.setAttribute("aria-label", `Draw the curve of ${job.title}`);
    setText(pause, job.state === "paused" ? "Resume" : "Pause");
    pause.hidden = !["running", "paused"].includes(job.state);
    stop.hidden = over;
    apply.hidden = job.state !== "done" || job.applied;
    remove.hidden = !over;
    for (const [control, what] of [[pause, pause.textContent], [stop, "Stop"], [apply, "Apply"], [remove, "Take away"]]) control.setAttribute("aria-label", `${what}: ${job.title}`);
    bar.hidden = over || job.state === "queued";
    bar.firstChild.style.width = `${100 * job.share}%`;
    bar.setAttribute("aria-label", job.title);
    bar.setAttribute("aria-valuenow", String(Math.round(100 * job.share)));
  };
  return { root, show };
}
