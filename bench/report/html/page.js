/* The page: its switch, what is drawn anew when it moves, and the way from any number to its record. */

function drawSwitch() {
  put(
    "bases",
    DATA.bases.map((basis) => {
      const priced = MONEY[basis].filter((one) => one.cost !== null).length;
      return h(
        "label",
        {},
        h("input", {
          type: "radio",
          name: "basis",
          value: basis,
          checked: basis === state.basis,
          onchange: () => {
            state.basis = basis;
            drawMoney();
          },
        }),
        `${basis} (${priced})`,
      );
    }),
  );
  document.getElementById("switch").addEventListener("submit", (event) => event.preventDefault());
}

function drawTerms() {
  const { region, as_of, attribution, usd_per_hour } = DATA.terms;
  const charged = attribution === "chips" ? "only the chips in use are charged" : "whole instances are charged";
  const own =
    state.basis === "user" && usd_per_hour ? `your own ${usd(usd_per_hour)} an hour` : `${state.basis} prices`;
  document.getElementById("terms").textContent =
    `Every amount is at ${own} of ${as_of}, ` +
    `${region ? `in ${region}` : "each in its own region or the cheapest known"}; ${charged}.`;
}

function drawCharts() {
  drawWorkload();
  drawRoofline();
  drawPhases();
  drawHistory();
}

function drawMoney() {
  drawTerms();
  drawDecisions();
  drawWorkload();
  drawHistory();
  drawClaims();
  RESULTS.draw();
  EMULATED.draw();
}

function drawAbout() {
  const counts = DATA.tiers.map(([tier, number]) => `${number.toLocaleString("en-GB")} ${tier}`).join(", ");
  document.getElementById("about").textContent = `${counts || "no"} results; made by ${DATA.tool} on ${DATA.made}.`;
  document.getElementById("results-note").textContent = DATA.hidden
    ? `Not shown, to keep the page small: ${plural(DATA.hidden, "further result")}; trnbench report --format csv has ` +
      "every one. Each option's fastest result is shown, so that no decision lacks one."
    : "";
  put(
    "problems",
    DATA.problems.length
      ? h(
          "details",
          { class: "notice" },
          h("summary", {}, `${plural(DATA.problems.length, "file")} could not be read`),
          h(
            "ul",
            {},
            DATA.problems.map((problem) => h("li", {}, problem)),
          ),
        )
      : null,
  );
  document.getElementById("emulated").hidden = !EMULATED.rows.length;
}

/** Go to the record that the address names. */
function follow() {
  const found = /^#run-(\d+)$/.exec(location.hash),
    row = found ? ROWS[Number(found[1])] : null;
  if (row) RESULTS.reveal(row) || EMULATED.reveal(row);
}

drawAbout();
drawSwitch();
drawChoice();
drawFilters(RESULTS);
drawPriceFilter();
drawMoney();
drawRoofline();
drawPhases();
PRICE_TABLE.draw();
follow();
window.addEventListener("hashchange", follow);
document.addEventListener("click", (event) => {
  // a second click on one link changes no address
  const link = event.target.closest?.("a[href^='#run-']");
  if (link && link.hash === location.hash) follow();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
window.addEventListener("beforeprint", () => {
  RESULTS.limit = Infinity;
  RESULTS.draw();
  drawCharts();
});
window.addEventListener("afterprint", () => {
  RESULTS.limit = RESULTS.step;
  RESULTS.draw();
  drawCharts();
});
