// The interactive front: one scatter of two objectives, a third as colour.

const frontState = { x: OBJECTIVES[0], y: OBJECTIVES[1] || null, colour: OBJECTIVES.length > 2 ? OBJECTIVES[2] : "",
  bars: "front", values: "scores" };

// The score that the figure shows: as reported, or the search score, which every model has.
function shown(row, name) {
  return frontState.values === "search" && row.search[name] ? row.search[name] : row.scores[name];
}

function hoverText(row) {
  const width = narrow() ? 34 : 60;
  const what = row.kind + (row.method ? ", " + row.method : "") + (row.picks.length ? " · " + row.picks.join(", ") : "");
  const lines = ["<b>" + wrap(row.label, width) + "</b>  " + wrap(what, width)];
  for (const name of Object.keys(row.scores)) {
    const score = shown(row, name);
    const size = score.n === null ? "" : ", n " + score.n;
    lines.push(wrap(name + ": " + score.text + " (" + score.split + size + ")", width));
  }
  if (row.weights.length) lines.push(wrap("weights: " + weightsText(row), width));
  if (row.params.length) lines.push(wrap("params: " + row.params.map((pair) => pair.join(" ")).join(", "), width));
  if (row.p) lines.push("P(on front) " + row.p.toFixed(2));
  if (!row.feasible) lines.push(wrap(infeasible(row), width));
  return lines.join("<br>");
}

function infeasible(row) {
  const broken = row.violations.map(([name, gap]) => name + " (by " + gap.toFixed(4) + ")").join("; ");
  return "infeasible: breaks " + (broken || "a constraint");
}

function weightsText(row) {
  return row.weights.map(([group, expert, w]) => (group ? group + " " : "") + expert + " " + w.toFixed(2)).join(" · ");
}

// With one objective the horizontal axis is the order of scoring.
function coordinate(row, name) {
  return name === null ? ROWS.indexOf(row) + 1 : shown(row, name) ? shown(row, name).v : null;
}

function place(row) {
  return OBJECTIVES.length === 1 ? [coordinate(row, null), coordinate(row, frontState.x)]
    : [coordinate(row, frontState.x), coordinate(row, frontState.y)];
}

function frontGroups() {
  const groups = DATA.methods.map((method) => Object.assign({ name: method, kind: "merge",
    rows: ROWS.filter((row) => row.kind === "merge" && row.method === method) }, methodStyle(method)));
  const unnamed = ROWS.filter((row) => row.kind === "merge" && row.method === null);
  if (unnamed.length) groups.push({ name: "merge", kind: "merge", rows: unnamed, color: colour(7), symbol: "circle" });
  for (const [kind, name] of [["expert", "experts"], ["baseline", "baselines"], ["base", "base"]]) {
    groups.push({ name, kind, rows: ROWS.filter((row) => row.kind === kind), color: css("--text"),
      symbol: KIND_SHAPES[kind] });
  }
  for (const group of groups) {
    group.rows = group.rows.filter((row) => place(row).every((value) => value !== null));
  }
  return groups.filter((group) => group.rows.length);
}

function bars(rows, axis, strong) {
  const single = OBJECTIVES.length === 1;
  const name = single ? (axis === 1 ? frontState.x : null) : [frontState.x, frontState.y][axis];
  if (name === null || frontState.bars === "none" || (frontState.bars === "front" && !strong)) return { visible: false };
  return errorBars(rows.map((row) => shown(row, name)));
}

function colourRange() {
  const values = ROWS.map((row) => coordinate(row, frontState.colour)).filter((value) => value !== null);
  return [Math.min(...values), Math.max(...values)];
}

function markers(group, rows, style) {
  const marker = { symbol: group.symbol + (style.hollow ? "-open" : ""), size: style.size, opacity: style.opacity,
    color: group.color, line: { width: style.line, color: style.hollow ? group.color : css("--page") } };
  if (style.front || style.named) marker.line.color = css("--text");
  if (frontState.colour && rows.every((row) => coordinate(row, frontState.colour) !== null)) {
    marker.color = rows.map((row) => coordinate(row, frontState.colour));
    marker.coloraxis = "coloraxis";
    if (!style.front && !style.named && !style.hollow) marker.line.color = css("--quiet");
    if (style.hollow) delete marker.line.color;
  }
  return marker;
}

function frontTraces() {
  const traces = [];
  const plainMerge = (row) => row.kind === "merge";
  for (const group of frontGroups()) {
    const parts = [
      [group.rows.filter((row) => !row.feasible), { size: 9, opacity: 0.75, line: 1.5, hollow: true }],
      [group.rows.filter((row) => row.feasible && !row.front && plainMerge(row)), { size: 8, opacity: 0.38, line: 0.5 }],
      [group.rows.filter((row) => row.feasible && !row.front && !plainMerge(row)), { size: 13, opacity: 1, line: 1, named: true }],
      [group.rows.filter((row) => row.front), { size: plainMerge(group) ? 13 : 15, opacity: 1, line: 2, front: true }],
    ];
    for (const [rows, style] of parts) {
      if (!rows.length) continue;
      const strong = style.front || (!plainMerge(group) && !style.hollow);
      const tone = css("--quiet") + (style.front ? "99" : "66");
      traces.push({ type: "scatter", mode: "markers", name: plain(group.name), legendgroup: group.name, showlegend: false,
        x: rows.map((row) => place(row)[0]), y: rows.map((row) => place(row)[1]), customdata: rows.map((row) => row.id),
        hovertext: rows.map(hoverText), hoverinfo: "text", marker: markers(group, rows, style),
        error_x: Object.assign({ color: tone }, bars(rows, 0, strong)),
        error_y: Object.assign({ color: tone }, bars(rows, 1, strong)), zorder: !plainMerge(group) ? 4 : style.front ? 3 : 1 });
      if (style.hollow) {
        traces.push({ type: "scatter", mode: "markers", legendgroup: group.name, showlegend: false, hoverinfo: "skip",
          x: rows.map((row) => place(row)[0]), y: rows.map((row) => place(row)[1]),
          marker: { symbol: "x-thin", size: 6, line: { width: 1.3, color: css("--quiet") } } });
      }
    }
    traces.push(legendMark(group.name, { symbol: group.symbol, size: 10,
      color: frontState.colour && plainMerge(group) ? css("--quiet") : group.color }, group.name));
  }
  if (ROWS.some((row) => !row.feasible)) {
    traces.push(legendMark("infeasible", { symbol: "circle-x-open", size: 10, color: css("--quiet") }, null));
  }
  if (ROWS.some((row) => row.front)) {
    traces.push(legendMark("on the front", { symbol: "circle-open", size: 13, color: css("--text"), line: { width: 2 } }, null));
  }
  return OBJECTIVES.length === 2 ? [staircase(), ...traces] : traces;
}

// A legend entry of full size and strength, whatever its group's points look like.
function legendMark(name, marker, group) {
  return { type: "scatter", mode: "markers", name: plain(name), legendgroup: group === null ? "legend " + name : group,
    x: [null], y: [null], hoverinfo: "skip", marker };
}

// The edge of what the front attains: it leaves a point along the axis on which the next point is worse.
function staircase() {
  const rows = ROWS.filter((row) => row.front && place(row).every((value) => value !== null));
  rows.sort((a, b) => place(a)[0] - place(b)[0]);
  // Confirmed values may differ from those that made the front; a line through a point that lost its place would lie.
  const gain = (value, name) => (DATA.objectives[name] === "max" ? value : -value);
  const kept = rows.filter((row) => !rows.some((other) => {
    const gaps = [frontState.x, frontState.y].map((name, i) => gain(place(other)[i], name) - gain(place(row)[i], name));
    return Math.min(...gaps) >= 0 && Math.max(...gaps) > 0;
  }));
  return { type: "scatter", mode: "lines", name: "front", x: kept.map((row) => place(row)[0]),
    y: kept.map((row) => place(row)[1]), hoverinfo: "skip", showlegend: false, zorder: 0,
    line: { shape: DATA.objectives[frontState.x] === "max" ? "vh" : "hv", color: css("--quiet"), width: 1.5 } };
}

// All marks and the bars that are on by default, with room around them for the labels.
function rangeOf(axis) {
  const name = OBJECTIVES.length === 1 ? [null, frontState.x][axis] : [frontState.x, frontState.y][axis];
  const ends = ROWS.filter((row) => place(row).every((value) => value !== null)).flatMap((row) => {
    const at = place(row)[axis];
    const strong = row.front || (row.kind !== "merge" && row.feasible);
    return name !== null && strong ? interval(shown(row, name)) : [at, at];
  });
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const room = (high - low || 0.1) * 0.08;
  return [low - room, high + room];
}

function scaleOf() {
  // Ends of viridis that fade into the page are left out: the bright one on white, the dark one on black.
  const stops = ["#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725"];
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const used = dark ? stops.slice(2) : stops.slice(0, 7);
  return used.map((stop, i) => [i / (used.length - 1), stop]);
}

function frontLayout() {
  const single = OBJECTIVES.length === 1;
  const [low, high] = frontState.colour ? colourRange() : [0, 1];
  return layoutOf({
    xaxis: { title: { text: single ? "order of scoring" : arrowed(frontState.x, true) }, range: rangeOf(0) },
    yaxis: { title: { text: single ? arrowed(frontState.x, false) : arrowed(frontState.y, false) }, range: rangeOf(1) },
    margin: { l: 12, r: 24, t: frontState.colour ? 70 : 24, b: 60 },
    legend: { orientation: "h", x: 0.5, xanchor: "center", y: 0, yanchor: "bottom", yref: "container" },
    coloraxis: { colorscale: scaleOf(), cmin: low, cmax: high, showscale: Boolean(frontState.colour),
      colorbar: { orientation: "h", x: 0.5, y: 1.02, yanchor: "bottom", len: narrow() ? 0.9 : 0.5, thickness: 12,
        title: { text: frontState.colour ? arrowed(frontState.colour, true) : "", side: "top" }, outlinewidth: 0 } },
    uirevision: [frontState.x, frontState.y, frontState.values].join("|"),
  });
}

// Names beside experts, baselines, base and picks: each label takes the free spot nearest to its mark.
function labels(plot) {
  const { xaxis, yaxis, _size: size } = plot._fullLayout;
  const named = ROWS.filter((row) => row.kind !== "merge" || row.picks.length);
  const marks = ROWS.map(place).filter((at) => at[0] !== null && at[1] !== null)
    .map(([x, y]) => [xaxis.l2p(x), yaxis.l2p(y)]);
  const taken = [];
  const made = [];
  for (const row of named) {
    const at = place(row);
    if (at[0] === null || at[1] === null) continue;
    const [px, py] = [xaxis.l2p(at[0]), yaxis.l2p(at[1])];
    if (px < 0 || py < 0 || px > size.w || py > size.h) continue;
    let text = [row.label, ...(row.picks.length ? [row.picks.join(", ")] : [])].join(" ");
    if (narrow()) text = row.kind === "merge" ? row.picks.join(", ") : row.label;
    if (text.length > 28) text = text.slice(0, 27) + "…";
    const [w, h] = [text.length * (narrow() ? 6 : 6.6) + 8, narrow() ? 16 : 18];
    let best = null;
    for (const distance of [18, 32, 50, 74, 100]) {
      for (let turn = 0; turn < 12; turn++) {
        const angle = (turn * Math.PI) / 6 - Math.PI / 4;
        const cx = px + Math.cos(angle) * (distance + w / 2);
        const cy = py + Math.sin(angle) * (distance + h / 2);
        const box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2];
        let cost = distance / 20;
        if (box[0] < 0 || box[2] > size.w || box[1] < 0 || box[3] > size.h) cost += 100;
        for (const other of taken) {
          if (box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3]) cost += 50;
        }
        for (const [mx, my] of marks) {
          if (mx > box[0] - 7 && mx < box[2] + 7 && my > box[1] - 7 && my < box[3] + 7) cost += 3;
        }
        if (best === null || cost < best.cost) best = { cost, cx, cy, box };
      }
    }
    taken.push(best.box);
    made.push({ x: at[0], y: at[1], ax: best.cx - px, ay: best.cy - py, text: plain(text), showarrow: true, arrowhead: 0,
      arrowwidth: 1, arrowcolor: css("--quiet"), font: { size: narrow() ? 11 : 12, color: css("--text") }, bgcolor: css("--page"),
      opacity: 0.92, borderpad: 1, standoff: 8, captureevents: false });
  }
  return made;
}

let labelling = false;
async function relabel(plot) {
  if (labelling) return;
  labelling = true;
  try {
    await Plotly.relayout(plot, { annotations: labels(plot) });
  } finally {
    labelling = false;
  }
}

async function drawFront() {
  const plot = document.getElementById("front-plot");
  if (!OBJECTIVES.length || !ROWS.some((row) => place(row).every((value) => value !== null))) {
    return nothing("front-plot", "No model has been scored on these objectives yet.");
  }
  await draw("front-plot", frontTraces(), frontLayout());
  if (!plot.wired) {
    plot.wired = true;
    plot.on("plotly_click", (event) => {
      const id = event.points[0] && event.points[0].customdata;
      if (id) select(id);
    });
    plot.on("plotly_relayout", () => relabel(plot));
  }
  await relabel(plot);
}

function frontControls() {
  const parent = document.getElementById("front-controls");
  const names = OBJECTIVES.map((name) => [name, name + " (" + DATA.objectives[name] + ")"]);
  const change = (key) => (value) => {
    frontState[key] = value;
    guarded("front-plot", drawFront);
  };
  if (OBJECTIVES.length > 2) {
    chooser(parent, "Horizontal", names, frontState.x, change("x"));
    chooser(parent, "Vertical", names, frontState.y, change("y"));
    chooser(parent, "Colour", [["", "method"], ...names], frontState.colour, change("colour"));
  }
  if (ROWS.length) {
    const choices = [["front", "front and references"], ["all", "all points"], ["none", "none"]];
    chooser(parent, "90 % intervals", choices, frontState.bars, change("bars"));
  }
  if (ROWS.some((row) => Object.keys(row.search).length)) {
    const choices = [["scores", "report where scored"], ["search", "search for all"]];
    chooser(parent, "Values", choices, frontState.values, change("values"));
  }
}
