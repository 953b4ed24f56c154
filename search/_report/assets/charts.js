// Weights of the merges, hypervolume of the search.

const weightState = { rows: "front", group: null };
const progressState = { x: "candidate" };

function weightGroups() {
  const found = new Map();
  for (const row of ROWS) for (const [group] of row.weights) found.set(group, true);
  return [...found.keys()];
}

function drawWeights() {
  const merges = ROWS.filter((row) => row.kind === "merge" && row.weights.length);
  const shown = merges.filter((row) => weightState.rows === "all" || row.front || row.id === selectedId);
  const groups = weightGroups();
  if (weightState.group === null) weightState.group = groups[0];
  const experts = [...new Map(merges.flatMap((row) => row.weights).map(([, expert]) => [expert, true])).keys()];
  if (!shown.length) return nothing("weight-plot", "No merge on the front has recorded weights.");
  document.getElementById("weight-plot").classList.remove("empty");
  const traces = [];
  const lanes = DATA.methods.filter((method) => shown.some((row) => row.method === method));
  for (const [lane, method] of lanes.entries()) {
    const style = methodStyle(method);
    // Each method has its own lane around the expert's position, so that equal weights do not hide each other.
    const shift = lanes.length > 1 ? (lane / (lanes.length - 1) - 0.5) * 0.3 : 0;
    let first = true;
    for (const row of shown.filter((candidate) => candidate.method === method)) {
      const own = row.weights.filter(([group]) => group === weightState.group);
      const chosen = row.id === selectedId;
      traces.push({ type: "scatter", mode: "lines+markers", name: plain(method), legendgroup: method, showlegend: first,
        x: own.map(([, expert]) => experts.indexOf(expert) + shift), y: own.map(([, , w]) => w),
        customdata: own.map(() => row.id), hoverinfo: "text", hovertext: own.map(() => hoverText(row)),
        opacity: chosen ? 1 : weightState.rows === "all" && !row.front ? 0.3 : 0.75,
        line: { color: style.color, width: chosen ? 3.5 : 1, dash: style.dash },
        marker: { color: style.color, symbol: style.symbol, size: chosen ? 12 : 9 } });
      first = false;
    }
  }
  const long = experts.some((expert) => expert.length > 10) || experts.length > 6;
  return draw("weight-plot", traces, layoutOf({
    xaxis: { tickvals: experts.map((_, i) => i), ticktext: experts.map(plain), range: [-0.5, experts.length - 0.5],
      title: { text: "expert" }, tickangle: long && (narrow() || experts.length > 8) ? -60 : 0, showgrid: false },
    yaxis: { title: { text: "weight" }, rangemode: "tozero" },
  }));
}

function weightControls() {
  const parent = document.getElementById("weight-controls");
  if (!ROWS.some((row) => row.kind === "merge" && row.weights.length)) return;
  const redraw = () => guarded("weight-plot", drawWeights);
  chooser(parent, "Merges", [["front", "on the front (and selected)"], ["all", "all"]], "front", (value) => {
    weightState.rows = value;
    redraw();
  });
  const groups = weightGroups();
  if (groups.length > 1) {
    chooser(parent, "Layer group", groups.map((group) => [group, group || "whole model"]), groups[0], (value) => {
      weightState.group = value;
      redraw();
    });
  }
}

function drawProgress() {
  const points = DATA.curve.map((point, i) => Object.assign({ candidate: i + 1 }, point));
  const key = progressState.x;
  const usable = points.filter((point) => point[key] !== null && point[key] !== undefined);
  const line = (rows, field, extra) => Object.assign({ type: "scatter", mode: "lines",
    x: rows.map((point) => point[key]), y: rows.map((point) => point[field]), hoverinfo: "text",
    hovertext: rows.map((point) => wrap((BY_ID.has(point.id) ? BY_ID.get(point.id).label : point.id) + ", " + (point.method || "") + ": hypervolume "
      + point[field].toFixed(4), 40)) }, extra);
  const traces = [];
  const joint = usable.filter((point) => point.joint !== null);
  if (joint.length) {
    traces.push(line(joint, "joint", { name: "joint (all models)", line: { color: css("--text"), width: 3, shape: "hv" } }));
  }
  for (const method of DATA.methods) {
    const own = usable.filter((point) => point.method === method && point.own !== null);
    if (!own.length) continue;
    const style = methodStyle(method);
    traces.push(line(own, "own", { name: plain(method), mode: "lines+markers",
      line: { color: style.color, width: 1.75, shape: "hv", dash: style.dash },
      marker: { symbol: style.symbol, color: style.color, size: 6 } }));
  }
  if (!traces.length) return nothing("progress-plot", "No hypervolume is recorded for the search.");
  return draw("progress-plot", traces, layoutOf({
    xaxis: { title: { text: key === "candidate" ? "candidates scored, all methods" : "seconds since the search began" } },
    yaxis: { title: { text: "hypervolume (search split)" } },
  }));
}

function progressControls() {
  if (!DATA.curve.some((point) => point.seconds !== null && point.seconds !== undefined)) return;
  const choices = [["candidate", "candidates"], ["seconds", "seconds"]];
  chooser(document.getElementById("progress-controls"), "Horizontal", choices, "candidate", (value) => {
    progressState.x = value;
    guarded("progress-plot", drawProgress);
  });
}
