/* Charts. Colour says the chip's vendor, the mark (and a bar's pattern) says the tier, and text says both. */

const COLOURS = {
  aws: "#E69F00",
  nvidia: "#009E73",
  amd: "#D55E00",
  google: "#0072B2",
  intel: "#56B4E9",
  microsoft: "#CC79A7",
  meta: "#CC79A7",
  other: "#8a8f98",
}; // Okabe and Ito, Color Universal Design (2008)
const PHASE_COLOURS = ["#0072B2", "#56B4E9", "#8a8f98", "#F0E442", "#D55E00", "#E69F00", "#009E73", "#CC79A7"];
const MARKS = { measured: "circle", published: "diamond-open", vendor: "square-open", modelled: "x" };
const PATTERNS = { measured: "", published: "/", vendor: ".", modelled: "x" };
const DASHES = ["solid", "dot", "dash", "longdash", "dashdot", "longdashdot"];
const MOST_BARS = 20,
  MOST_LEDGERS = 20,
  MOST_HISTORIES = 10;

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const narrow = () => window.innerWidth < 640;
const colour = (row) => COLOURS[row.vendor] ?? COLOURS.other;
const cut = (label, most = narrow() ? 20 : 38) => (label.length > most ? `${label.slice(0, most - 1)}…` : label);
const category = (row) => `row ${row.index}`; // plotly takes bare numbers for positions
/** plotly reads a few tags and entities in texts: none of a record's may be one. */
const plain = (label) => String(label).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function layout(changes) {
  const axis = {
    gridcolor: style("--line"),
    linecolor: style("--soft"),
    zeroline: false,
    automargin: true,
    ticks: "outside",
    tickcolor: style("--line"),
    exponentformat: "SI",
  };
  return {
    font: { family: "system-ui, sans-serif", size: 12, color: style("--ink") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 8, r: 14, t: 8, b: 8 },
    height: 380,
    showlegend: false,
    hovermode: "closest",
    dragmode: false,
    hoverlabel: {
      bgcolor: style("--raised"),
      bordercolor: style("--soft"),
      font: { color: style("--ink") },
      align: "left",
    },
    ...changes,
    xaxis: { ...axis, ...changes.xaxis },
    yaxis: { ...axis, ...changes.yaxis },
  };
}

/** Draw, or empty the chart and leave its note to say why. A click on a mark that stands for a row leads there. */
function draw(id, traces, look, says) {
  const place = document.getElementById(id);
  place.setAttribute("aria-label", says);
  if (!traces.length) {
    Plotly.purge(place);
    place.replaceChildren();
    place.style.height = "";
    return;
  }
  Plotly.react(place, traces, layout(look), { displayModeBar: false, responsive: true }).then(() => {
    place.removeAllListeners("plotly_click");
    place.on("plotly_click", (event) => {
      const row = event.points[0]?.customdata;
      if (Number.isInteger(row)) location.hash = `run-${row}`;
    });
  });
}

const hover = (row, ...lines) =>
  plain(`${optionName(row)}, ${row.precision}, batch ${row.batch ?? "not stated"}, ${row.tier}`) +
  lines
    .filter(Boolean)
    .map((line) => `<br>${plain(line)}`)
    .join("");

/** Latency of a query, of the first token or of a step; the median where it is known, else the mean. */
const latencyKind = (row) =>
  text(row.latency[0])
    .replace(/_(p50|mean)$/, "")
    .replace("_ms", "")
    .replaceAll("_", " ");

function drawPareto(group) {
  const cost = (row) => money(row).cost,
    latency = (row) => row.latency[1],
    all = rowsOf(group.index);
  const points = all.filter((row) => cost(row) !== null && row.latency.length);
  const count = (kind) => points.filter((row) => latencyKind(row) === kind).length;
  const [kind] = [...new Set(points.map(latencyKind))].sort((a, b) => count(b) - count(a));
  const rows = points.filter((row) => latencyKind(row) === kind),
    left = all.length - rows.length;
  const front = frontier(rows.map((row) => [latency(row), cost(row), row])),
    labelled = new Set(front.map(([, , row]) => row));
  const marks = {
    type: "scatter",
    mode: narrow() ? "markers" : "markers+text",
    x: rows.map(latency),
    y: rows.map(cost),
    customdata: rows.map((row) => row.index),
    textposition: "top right",
    cliponaxis: false,
    text: rows.map((row) => (labelled.has(row) ? plain(cut(row.where || row.chip, 18)) : "")),
    marker: { size: 11, color: rows.map(colour), symbol: rows.map((row) => MARKS[row.tier]), line: { width: 2 } },
    hovertext: rows.map((row) =>
      hover(row, `${text(row.latency[0])} ${digits(latency(row))}`, `${usd(cost(row))}: ${group.unit}`),
    ),
    hoverinfo: "text",
  };
  const line = {
    type: "scatter",
    mode: "lines",
    x: front.map(([x]) => x),
    y: front.map(([, y]) => y),
    line: { color: style("--soft"), dash: "dot", shape: "hv", width: 1.5 },
    hoverinfo: "skip",
  };
  const without = left ? ` Not drawn, for want of a price or of this latency: ${plural(left, "result")}.` : "";
  document.getElementById("pareto-note").textContent = rows.length
    ? `${group.unit} under ${state.basis} against ${kind}, the median where it is stated, else the mean. ` +
      `The dotted line joins results that none beats in both.${without}`
    : `No result of this workload has both a price (${state.basis}) and a latency.`;
  draw(
    "pareto",
    rows.length ? [line, marks] : [],
    {
      height: narrow() ? 320 : 420,
      xaxis: logAxis(rows.map(latency), `${kind}, ms`),
      yaxis: logAxis(rows.map(cost), group.unit, "$"),
    },
    `Cost against latency of ${plural(rows.length, "result")} of ${group.workload}`,
  );
}

/** A logarithmic axis with labels at 1, 2 and 5, at powers of ten alone where it spans many. */
function logAxis(values, title, sign = "") {
  const least = Math.log10(Math.min(...values)),
    most = Math.log10(Math.max(...values));
  const steps = most - least > 2.2 || (narrow() && most - least > 1.2) ? [1] : [1, 2, 5];
  const powers = Array.from({ length: Math.ceil(most) - Math.floor(least) + 2 }, (_, i) => Math.floor(least) + i);
  const tickvals = powers.flatMap((power) => steps.map((step) => Number(`${step}e${power}`)));
  return {
    type: "log",
    title: { text: plain(title) },
    tickmode: "array",
    tickvals,
    ticktext: tickvals.map((at) => sign + brief(at)),
  };
}

/** A round number for an axis: 0.05, 2k, 10G. */
function brief(value) {
  const [size, letter] = [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
    [1, ""],
  ].find(([one]) => value >= one) ?? [1, ""];
  return `${Number((value / size).toPrecision(3))}${letter}`;
}

/** Points that no other one beats in both coordinates, from left to right. */
function frontier(points) {
  let least = Infinity;
  return points.sort((a, b) => a[0] - b[0] || a[1] - b[1]).filter(([, y]) => y < least && ((least = y), true));
}

const firstOf = (shown, all) => (all.length > shown.length ? `, the first ${shown.length} of ${all.length}` : "");

/** Horizontal bars, longest first, of each option's best row. `read(row)` -> [value, low, high]. */
function drawBars(id, group, title, read, lacking) {
  const best = new Map();
  for (const row of rowsOf(group.index)) {
    const value = read(row)[0] ?? null,
      key = `${row.where}|${row.chip}|${row.chips}|${row.tier}`;
    if (value !== null && value > (best.has(key) ? read(best.get(key))[0] : 0)) best.set(key, row);
  }
  const all = [...best.values()].sort((a, b) => read(b)[0] - read(a)[0]);
  const rows = all.slice(0, MOST_BARS).reverse();
  const bounded = (row) => Boolean(read(row)[1] && read(row)[2]);
  const bars = [rows.filter(bounded), rows.filter((row) => !bounded(row))]
    .filter((part) => part.length)
    .map((part) => ({
      type: "bar",
      orientation: "h",
      y: part.map(category),
      x: part.map((row) => read(row)[0]),
      hoverinfo: "text",
      customdata: part.map((row) => row.index),
      hovertext: part.map((row) =>
        hover(
          row,
          `${digits(read(row)[0])} ${title} ${interval(read(row)[1], read(row)[2])}`,
          priceText(money(row).rate),
        ),
      ),
      marker: {
        color: part.map(colour),
        line: { color: style("--ink"), width: 1 },
        pattern: {
          shape: part.map((row) => PATTERNS[row.tier]),
          fillmode: "overlay",
          fgcolor: style("--ground"),
          size: 8,
          solidity: 0.25,
        },
      },
      error_x: {
        type: "data",
        visible: bounded(part[0]),
        color: style("--ink"),
        symmetric: false,
        array: part.map((row) => read(row)[2] - read(row)[0]),
        arrayminus: part.map((row) => read(row)[0] - read(row)[1]),
      },
    }));
  const whiskers = rows.some(bounded)
    ? "Whiskers: 95 % intervals, where they are known."
    : "No intervals were published.";
  document.getElementById(`${id}-note`).textContent = rows.length
    ? `${title}; each option's best result${firstOf(rows, all)}. ${whiskers}`
    : lacking;
  draw(
    id,
    bars,
    {
      height: 70 + 30 * rows.length,
      bargap: 0.3,
      barmode: "overlay",
      xaxis: { rangemode: "tozero", nticks: narrow() ? 4 : 7 },
      yaxis: {
        type: "category",
        categoryorder: "array",
        categoryarray: rows.map(category),
        tickmode: "array",
        ticks: "",
        tickvals: rows.map(category),
        ticktext: rows.map((row) => plain(cut(optionName(row)))),
      },
    },
    `${title} of ${plural(rows.length, "option")}`,
  );
}

function drawRoofline() {
  const { points, roofs, unplaced } = DATA.roofline,
    spread = points.map((point) => point.intensity);
  const edges = [Math.min(...spread, 1) / 4, Math.max(...spread, 100) * 4];
  const traces = roofs
    .filter((roof) => roof.peak)
    .map((roof, i) => {
      const ridge = roof.bytes_per_second ? roof.peak / roof.bytes_per_second : null;
      const x = [edges[0], ridge, edges[1]].filter((at) => at !== null && at >= edges[0] && at <= edges[1]);
      return {
        type: "scatter",
        mode: "lines",
        name: plain(`${roof.name} ${roof.dtype}`),
        hoverinfo: "name",
        x,
        y: x.map((at) => Math.min(roof.peak, roof.bytes_per_second ? at * roof.bytes_per_second : roof.peak)),
        line: { dash: DASHES[i % DASHES.length], color: style("--soft"), width: 2 },
      };
    });
  const rows = points.map((point) => ROWS[point.row]);
  if (points.length)
    traces.push({
      type: "scatter",
      mode: "markers",
      x: spread,
      y: points.map((point) => point.flops),
      name: "results",
      customdata: points.map((point) => point.row),
      hoverinfo: "text",
      showlegend: false,
      marker: {
        size: 11,
        color: rows.map(colour),
        symbol: rows.map((row) => MARKS[row.tier] ?? "star-open"),
        line: { width: 2 },
      },
      hovertext: points.map((point, i) =>
        hover(
          rows[i],
          rows[i].workload,
          `${digits(point.flops / 1e9)} GFLOP/s a chip at ` + `${digits(point.intensity)} FLOP a byte`,
        ),
      ),
    });
  const without = unplaced
    ? ` ${plural(unplaced, "result")} ${unplaced === 1 ? "has" : "have"} counted FLOPs but no counted ` +
      "bytes, and so no place here: their share of the peak is in their row."
    : "";
  document.getElementById("roofline-note").textContent = points.length
    ? "FLOP/s a chip against FLOPs a byte moved. Lines: a chip's dense peak and memory bandwidth by its data sheet; " +
      `a chip without published peaks has none.${without}`
    : `No valid result here has both its FLOPs and its bytes counted.${without}`;
  draw(
    "roofline",
    points.length ? traces : [],
    {
      showlegend: roofs.length > 0,
      legend: { orientation: "h", y: -0.25 },
      xaxis: logAxis(edges, "FLOPs a byte"),
      yaxis: logAxis([...points.map((point) => point.flops), 1e9], "FLOP/s a chip"),
    },
    `Roofline with ${plural(points.length, "result")}`,
  );
}

function drawPhases() {
  const runs = DATA.phases.slice(0, MOST_LEDGERS).reverse(),
    rows = runs.map(([row]) => ROWS[row]);
  const traces = DATA.phase_names.map((phase, i) => ({
    type: "bar",
    orientation: "h",
    name: phase,
    y: rows.map(category),
    x: runs.map(([, spent]) => spent[i]),
    customdata: runs.map(([row]) => row),
    hoverinfo: "text",
    hovertext: runs.map(([, spent], n) => hover(rows[n], rows[n].workload, `${phase} ${digits(spent[i])} s`)),
    marker: {
      color: PHASE_COLOURS[i],
      line: { color: style("--ground"), width: 1 },
      pattern: {
        shape: ["", "/", ".", "\\", "x", "-", "", "|"][i],
        fillmode: "overlay",
        fgcolor: style("--ground"),
        size: 7,
      },
    },
  }));
  document.getElementById("phases-note").textContent = runs.length
    ? `Seconds of all of a run's processes, longest first${firstOf(runs, DATA.phases)}. ` +
      "check and tune are the harness's own; a job pays for the others."
    : "No run measured here is among these records; published results say nothing of their phases.";
  draw(
    "phases",
    runs.length ? traces : [],
    {
      barmode: "stack",
      height: 130 + 32 * runs.length,
      showlegend: true,
      legend: { orientation: "h", traceorder: "normal", y: 1, yanchor: "bottom" },
      xaxis: { title: { text: "seconds" } },
      yaxis: {
        type: "category",
        tickmode: "array",
        ticks: "",
        tickvals: rows.map(category),
        ticktext: rows.map((row) => plain(cut(`${row.workload} ${row.precision} ${row.where}`, narrow() ? 18 : 38))),
      },
    },
    `Seconds by phase of ${plural(runs.length, "run")}`,
  );
}

/** Instances whose price under the basis changed, those that moved most first. */
function drawHistory() {
  const lines = new Map();
  for (const price of PRICES.filter((one) => one.basis === state.basis)) {
    const key = `${price.instance}, ${price.region}`;
    lines.set(key, [...(lines.get(key) ?? []), price]);
  }
  const moved = (prices) => Math.abs(Math.log(prices.at(-1).usd_per_hour / prices[0].usd_per_hour));
  const all = [...lines.entries()]
    .filter(([, prices]) => new Set(prices.map((one) => one.date)).size > 1)
    .filter(([, prices]) => moved(prices) > 0)
    .sort(([, a], [, b]) => moved(b) - moved(a));
  const traces = all.slice(0, MOST_HISTORIES).map(([key, prices], i) => ({
    type: "scatter",
    mode: "lines+markers",
    name: plain(key),
    x: prices.map((one) => one.date),
    y: prices.map((one) => one.usd_per_hour),
    hoverinfo: "text",
    hovertext: prices.map((one) => plain(`${key}: ${usd(one.usd_per_hour)} an hour from ${one.date}`)),
    line: {
      shape: "hv",
      width: 2,
      dash: DASHES[i % DASHES.length],
      color: PHASE_COLOURS[i % PHASE_COLOURS.length],
    },
    marker: { symbol: i, size: 8 },
  }));
  document.getElementById("history-note").textContent = traces.length
    ? `${state.basis} prices that changed between the days they are known of${
        all.length > traces.length ? `, the ${traces.length} that moved most of ${all.length}` : ""
      }; the axis is logarithmic. All are in the table.`
    : `No ${state.basis} price is known to have changed. All are in the table.`;
  draw(
    "history",
    traces,
    {
      height: narrow() ? 480 : 420,
      showlegend: true,
      legend: { orientation: "h", y: -0.15 },
      xaxis: { type: "date" },
      yaxis: logAxis(
        traces.flatMap((trace) => trace.y),
        "USD an hour",
        "$",
      ),
    },
    `Price history of ${plural(traces.length, "instance")}`,
  );
}

/** What marks, patterns and colours mean, of those that are there. */
function legend(rows) {
  const space = "http://www.w3.org/2000/svg";
  const shapes = {
    measured: ["circle", { cx: 8, cy: 8, r: 6, fill: "currentColor" }],
    published: ["path", { d: "M8 1 15 8 8 15 1 8Z", fill: "none", stroke: "currentColor", "stroke-width": 2 }],
    vendor: ["path", { d: "M2 2H14V14H2Z", fill: "none", stroke: "currentColor", "stroke-width": 2 }],
    modelled: ["path", { d: "M2 2 14 14M14 2 2 14", stroke: "currentColor", "stroke-width": 3 }],
  };
  const draw = (name, attributes) => {
    const picture = document.createElementNS(space, "svg"),
      shape = document.createElementNS(space, name);
    picture.setAttribute("viewBox", "0 0 16 16");
    picture.setAttribute("aria-hidden", "true");
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    picture.append(shape);
    return picture;
  };
  const bars = { measured: "plain bar", published: "striped bar", vendor: "dotted bar", modelled: "crossed bar" };
  const tiers = Object.keys(MARKS).filter((tier) => rows.some((row) => row.tier === tier));
  const vendors = [...new Set(rows.map((row) => row.vendor))].sort();
  put(
    "legend",
    tiers.map((tier) => h("li", {}, draw(...shapes[tier]), `${tier} (${bars[tier]})`)),
    vendors.map((vendor) =>
      h(
        "li",
        {},
        draw("rect", { x: 1, y: 3, width: 14, height: 10, fill: COLOURS[vendor] ?? COLOURS.other }),
        vendor,
      ),
    ),
  );
}
