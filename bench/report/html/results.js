/* The tables of results and of prices, with their filters. */

const PRICES = DATA.prices.map((values) => {
  const price = named(DATA.price_columns, values);
  for (const name of ["instance", "region", "basis", "date", "source", "note"]) price[name] = text(price[name]);
  return price;
});

const costUnit = (row) => GROUPS[row.group].unit.replace("USD per ", "");

const RESULT_COLUMNS = [
  {
    id: "workload",
    title: "Workload",
    kind: "w",
    cell: (row) => [row.workload, h("br"), h("small", { class: "soft" }, row.how)],
    sort: (row) => row.workload + row.how,
    name: (row) => `${row.workload} on ${optionName(row)}`,
  },
  { id: "chip", title: "Chip", cell: chips, sort: (row) => row.chip },
  { id: "where", title: "Ran on", kind: "w", cell: (row) => row.where, sort: (row) => row.where },
  { id: "precision", title: "Precision", cell: (row) => row.precision, sort: (row) => row.precision },
  {
    id: "sequence",
    title: "Sequence",
    cell: (row) => row.sequence || UNKNOWN,
    sort: (row) => row.sequence,
    number: true,
  },
  {
    id: "batch",
    title: "Batch",
    cell: (row) => String(row.batch ?? UNKNOWN),
    sort: (row) => row.batch,
    number: true,
  },
  {
    id: "tier",
    title: "Tier",
    cell: (row) => [
      tierBadge(row.tier),
      row.status === "valid" ? null : [" ", h("span", { class: "flag" }, row.status)],
    ],
    sort: (row) => row.tier,
  },
  { id: "rate", title: "Per second", cell: (row) => numeric(...row.rate), sort: (row) => row.rate[0], number: true },
  {
    id: "chip-rate",
    title: "Per second, chip",
    cell: (row) => numeric(...row.per_chip),
    sort: (row) => row.per_chip[0],
    number: true,
  },
  {
    id: "latency",
    title: "Latency ms",
    cell: (row) => (row.latency.length ? [digits(row.latency[1]), h("small", {}, text(row.latency[0]))] : UNKNOWN),
    sort: (row) => row.latency[1],
    number: true,
  },
  {
    id: "cost",
    title: "Cost",
    cell: (row) => {
      const m = money(row);
      return [
        usd(m.cost),
        h("small", {}, `${costUnit(row)} ${interval(m.cost_low, m.cost_high, usd)}`),
        m.rate.stale && m.cost !== null ? h("span", { class: "flag" }, "old price") : null,
      ];
    },
    sort: (row) => money(row).cost,
    number: true,
  },
  {
    id: "per-usd",
    title: "Items a dollar",
    cell: (row) => {
      const m = money(row);
      return numeric(m.per_usd, m.per_usd_low, m.per_usd_high);
    },
    sort: (row) => money(row).per_usd,
    number: true,
  },
  ...(DATA.baseline
    ? [
        {
          id: "times",
          title: `Cheaper than ${DATA.baseline}, times`,
          cell: (row) => {
            const m = money(row);
            return numeric(m.times, m.times_low, m.times_high);
          },
          sort: (row) => money(row).times,
          number: true,
        },
      ]
    : []),
  { id: "mfu", title: "MFU", cell: (row) => percent(row.mfu), sort: (row) => row.mfu, number: true },
  { id: "date", title: "Date", cell: (row) => row.date, sort: (row) => row.date },
];

function facts(row) {
  const m = money(row),
    pairs = row.facts.map(([label, fact]) => [text(label), text(fact)]);
  const costs = [
    ["price", priceText(m.rate)],
    [
      "cost",
      m.cost === null
        ? text(m.why)
        : `${usd(m.cost)} ${interval(m.cost_low, m.cost_high, usd)} ${GROUPS[row.group].unit}`,
    ],
    ["all in, a job of an hour", m.all_in === null ? null : usd(m.all_in)],
    ["joules an item", row.joules === null ? null : digits(row.joules)],
  ];
  const address = row.url ? [["address", outside(row.url)]] : [];
  return h(
    "dl",
    {},
    [["run", h("code", {}, row.run)], ...pairs, ...address, ...costs]
      .filter(([, fact]) => fact)
      .map(([label, fact]) => [h("dt", {}, label), h("dd", {}, fact)]),
  );
}

function resultTable(id, rows, caption) {
  return new Table(document.getElementById(id), {
    columns: RESULT_COLUMNS,
    rows,
    unfold: facts,
    rowId: (row) => `run-${row.index}`,
    caption,
  });
}

const RESULTS = resultTable(
  "results-table",
  ROWS.filter((row) => row.tier !== "emulated"),
  "Results",
);
const EMULATED = resultTable(
  "emulated-table",
  ROWS.filter((row) => row.tier === "emulated"),
  "Emulated results",
);

function choiceOf(label, values, change) {
  const place = h(
    "select",
    { onchange: change },
    h("option", { value: "" }, "all"),
    values.map((value) => h("option", { value }, value)),
  );
  return { place, label: h("label", {}, `${label} `, place) };
}

function drawFilters(table) {
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean),
      tiers = boxes.filter((box) => box.checked).map((box) => box.value);
    table.filter(
      (row) =>
        tiers.includes(row.tier) &&
        (!workload.place.value || row.workload === workload.place.value) &&
        (!chip.place.value || row.chip === chip.place.value) &&
        words.every((word) => row.search.includes(word)),
    );
  };
  const values = (read) => [...new Set(table.rows.map(read))].filter(Boolean).sort((a, b) => a.localeCompare(b));
  const boxes = values((row) => row.tier).map((tier) =>
    h("input", { type: "checkbox", value: tier, checked: true, onchange: apply }),
  );
  const workload = choiceOf(
      "Workload",
      values((row) => row.workload),
      apply,
    ),
    chip = choiceOf(
      "Chip",
      values((row) => row.chip),
      apply,
    );
  const search = h("input", { type: "search", oninput: apply });
  table.place.prepend(
    h(
      "div",
      { class: "controls" },
      h("label", {}, "Text ", search),
      workload.label,
      chip.label,
      h(
        "fieldset",
        {},
        h("legend", {}, "Tier"),
        boxes.map((box) => h("label", {}, box, tierBadge(box.value))),
      ),
    ),
  );
}

const PRICE_TABLE = new Table(document.getElementById("prices-table"), {
  caption: "Prices",
  rows: PRICES,
  sortBy: "instance",
  step: 20,
  columns: [
    { id: "instance", title: "Instance", cell: (one) => one.instance, sort: (one) => one.instance },
    { id: "region", title: "Region", cell: (one) => one.region, sort: (one) => one.region },
    { id: "basis", title: "Basis", cell: (one) => one.basis, sort: (one) => one.basis },
    {
      id: "usd",
      title: "USD an hour",
      cell: (one) => digits(one.usd_per_hour),
      sort: (one) => one.usd_per_hour,
      number: true,
    },
    { id: "date", title: "From", cell: (one) => one.date, sort: (one) => one.date },
    {
      id: "source",
      title: "Source",
      kind: "w",
      cell: (one) => [outside(one.source), one.note ? h("small", { class: "soft" }, ` ${one.note}`) : null],
      sort: (one) => one.source,
    },
  ],
});

function drawPriceFilter() {
  const search = h("input", {
    type: "search",
    oninput: () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      PRICE_TABLE.filter((one) =>
        words.every((word) => `${one.instance} ${one.region} ${one.basis} ${one.date}`.toLowerCase().includes(word)),
      );
    },
  });
  PRICE_TABLE.place.prepend(
    h("div", { class: "controls" }, h("label", {}, "Instance, region, basis or date ", search)),
  );
}
