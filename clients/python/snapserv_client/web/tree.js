// The tree: rows of one height, of which only those are here that can be seen, or nearly. The server has the others.
const ROW = 28, LANE = 14, FIRST = 11, AHEAD = 30, MOST_LANES = 14;
const AGES = [["y", 31536000], ["mo", 2592000], ["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

export default {
  template: `
    <div class="tree" ref="scroller" tabindex="0" role="tree" aria-label="nodes" :aria-activedescendant="active"
         @scroll.passive="looked" @keydown="pressed">
      <div class="tree-all" :style="{ height: total * ROW + 'px' }">
        <div v-for="[at, row] in seen" :key="at" class="tree-row" role="treeitem" :id="'row-' + at"
             :class="classes(row)" :style="{ top: at * ROW + 'px' }" :title="title(row)"
             :aria-selected="!row.folded && row.id === selected" @click="clicked(row, $event)">
          <svg class="lanes" :width="wide" :height="ROW" aria-hidden="true"><g v-html="drawn(row)"></g></svg>
          <template v-if="row.folded">
            <span class="folded">{{ row.folded.toLocaleString() }} {{ row.aside ? 'more branches' : 'snapshots' }}</span>
          </template>
          <template v-else>
            <span class="name">{{ row.name }}</span>
            <span v-for="tag in row.tags" class="tag">{{ tag }}</span>
            <span v-if="row.hidden" class="more">+{{ row.hidden.toLocaleString() }}</span>
            <span v-if="row.message" class="message">{{ row.message }}</span>
            <span class="gap"></span>
            <span v-if="row.held" class="held" title="the other one of a comparison">B</span>
            <svg v-if="row.pinned" class="sign" viewBox="0 0 16 16"><title>pinned</title>
              <path d="M9.5 1.5l5 5-2.2.6-2.6 2.6.1 2.9-1 1-3-3-3.6 3.6-.8-.8 3.6-3.6-3-3 1-1 2.9.1L8.9 3.7z"/></svg>
            <svg v-if="row.durable" class="sign" viewBox="0 0 16 16"><title>durable</title>
              <path d="M8 1.5c-3.3 0-5.5 1-5.5 2.3v8.4c0 1.3 2.2 2.3 5.5 2.3s5.5-1 5.5-2.3V3.8C13.5 2.5 11.3 1.5 8 1.5zM8
              3c2.6 0 3.8.6 4 .8-.2.2-1.4.8-4 .8s-3.8-.6-4-.8C4.2 3.6 5.4 3 8 3z"/></svg>
            <span class="state" :class="row.state">{{ row.state }}</span>
            <span class="number step">{{ row.step.toLocaleString() }}</span>
            <span class="number memory">{{ row.memory }}</span>
            <span class="number age">{{ ago(row.created) }}</span>
          </template>
        </div>
      </div>
    </div>`,
  props: { first: Object },
  data() {
    return { ROW, total: 0, rows: new Map(), from: 0, to: 60, selected: null, at: null, lanes: 1, version: -1, now: 0 };
  },
  computed: {
    seen() {
      const found = [];
      for (let at = this.from; at < Math.min(this.to, this.total); at++) {
        const row = this.rows.get(at);
        if (row) found.push([at, row]);
      }
      return found;
    },
    wide() {
      return FIRST + LANE * Math.min(this.lanes, MOST_LANES);
    },
    active() {
      return this.at === null ? null : "row-" + this.at;
    },
  },
  created() {
    this.now = Date.now() / 1000;
    if (this.first) this.show(this.first);
  },
  mounted() {
    this.clock = setInterval(() => (this.now = Date.now() / 1000), 10000);
    this.sizes = new ResizeObserver(() => this.looked());
    this.sizes.observe(this.$refs.scroller);
    this.keys = (event) => this.anywhere(event);
    document.addEventListener("keydown", this.keys);
    this.looked();
  },
  unmounted() {
    clearInterval(this.clock);
    this.sizes.disconnect();
    document.removeEventListener("keydown", this.keys);
  },
  methods: {
    show(told) {
      if (told.version !== this.version || told.total !== this.total) {
        if (told.whole) this.rows = new Map();
        this.version = told.version;
        this.total = told.total;
      }
      this.lanes = told.lanes;
      if (told.chosen) this.selected = told.selected;
      if (told.selected === this.selected) this.at = told.at; // or else it is of before the last choice here
      told.rows.forEach((row, number) => this.rows.set(told.start + number, row));
      this.rows = new Map(this.rows);
      if (told.chosen && told.at !== null) this.$nextTick(() => this.reveal(told.at));
    },
    reveal(at) {
      const scroller = this.$refs.scroller;
      if (!scroller) return;
      if (at * ROW < scroller.scrollTop + ROW) scroller.scrollTop = (at - 2) * ROW;
      else if ((at + 2) * ROW > scroller.scrollTop + scroller.clientHeight)
        scroller.scrollTop = (at + 3) * ROW - scroller.clientHeight;
      this.looked();
    },
    looked() {
      if (this.waiting) return;
      this.waiting = requestAnimationFrame(() => {
        this.waiting = null;
        const scroller = this.$refs.scroller;
        if (!scroller) return;
        const first = Math.floor(scroller.scrollTop / ROW), count = Math.ceil(scroller.clientHeight / ROW) || 40;
        this.from = Math.max(0, first - AHEAD);
        this.to = first + count + AHEAD;
        let missing = false;
        for (let at = this.from; at < Math.min(this.to, this.total); at++) missing ||= !this.rows.has(at);
        const asked = `${this.from}:${this.to}`;
        if (asked !== this.asked || missing) {
          this.asked = asked;
          this.$emit("look", { start: this.from, count: this.to - this.from });
        }
      });
    },
    clicked(row, event) {
      if (row.folded) this.$emit("unfold", row.id);
      else if (event.shiftKey) this.$emit("hold", row.id);
      else this.choose(row, true);
    },
    choose(row, open) {
      this.selected = row.id;
      for (const [at, each] of this.rows) if (each === row) this.at = at;
      this.$emit("choose", { node: row.id, open });
    },
    move(by) {
      let at = this.at === null ? 0 : this.at + by;
      while (this.rows.get(at)?.folded) at += Math.sign(by);
      const row = this.rows.get(Math.max(0, Math.min(at, this.total - 1)));
      if (!row || row.folded) return;
      this.choose(row, false);
      this.reveal(Math.max(0, Math.min(at, this.total - 1)));
    },
    pressed(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -1e9, End: 1e9 };
      if (event.key in moves) this.move(moves[event.key]);
      else if (event.key === "ArrowLeft") this.$emit("close", this.selected);
      else if (event.key === "ArrowRight") this.$emit("open", this.selected);
      else return;
      event.preventDefault();
      event.stopPropagation();
    },
    anywhere(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      if (document.querySelector(".dialog, .q-menu")) return;
      const at = event.target;
      if (at.closest?.("input, textarea, select, [contenteditable]")) {
        if (event.key === "Escape") at.blur();
        return;
      }
      const onButton = at.closest?.("button, a, [role=button], [role=tab], [role=slider]");
      if (event.key === "j" || event.key === "ArrowDown") this.move(1);
      else if (event.key === "k" || event.key === "ArrowUp") this.move(-1);
      else if (event.key === "/") document.querySelector(".search input")?.focus();
      else if (event.key === "Enter" && !onButton) this.$emit("choose", { node: this.selected, open: true });
      else if (event.key.length === 1 && "snbcrmx?123456".includes(event.key)) this.$emit("pressed", event.key);
      else if (event.key === "Escape") this.$emit("pressed", event.key);
      else return;
      event.preventDefault();
    },
    classes(row) {
      return { selected: !row.folded && row.id === this.selected, fold: row.folded > 0, auto: row.automatic, [row.state]: true };
    },
    title(row) {
      if (row.folded) return "click to show them";
      const words = [`${row.name} · step ${row.step.toLocaleString()} · ${row.state}`, new Date(row.created * 1000).toLocaleString()];
      if (row.trouble) words.push(row.trouble);
      if (row.message) words.push(row.message);
      return words.join("\n");
    },
    ago(created) {
      const past = Math.max(0, this.now - created);
      for (const [unit, size] of AGES) if (past >= size) return Math.floor(past / size) + " " + unit;
      return "now";
    },
    drawn(row) {
      const x = (lane) => FIRST + LANE * Math.min(lane, MOST_LANES - 1), middle = ROW / 2, here = x(row.lane);
      const line = (d, lane) => `<path class="lane lane-${row.colours[lane]}" d="${d}"/>`;
      let drawn = "";
      for (let lane = 0; lane < row.lane; lane++) drawn += line(`M${x(lane)} 0V${ROW}`, lane);
      if (row.above) drawn += line(`M${here} 0V${middle}`, row.lane);
      if (row.aside)
        drawn += line(`M${x(row.lane - 1)} 0C${x(row.lane - 1)} ${middle} ${x(row.lane - 1) + 2} ${middle} ${here} ${middle}`, row.lane);
      if (row.folded) {
        if (row.below) drawn += line(`M${here} ${middle}V${ROW}`, row.lane);
        return drawn + [-5, 0, 5].map((by) => `<circle class="dots" cx="${here}" cy="${middle + by}" r="1.6"/>`).join("");
      }
      if (row.below) drawn += line(`M${here} ${middle}V${ROW}`, row.lane);
      const of = `class="sign-of ${row.state} lane-${row.colours[row.lane]}"`;
      if (row.state === "dead")
        return drawn + `<path ${of} d="M${here - 4} ${middle - 4}l8 8m0-8l-8 8"/>`;
      if (row.live) return drawn + `<path ${of} d="M${here - 3.5} ${middle - 5}l8.5 5-8.5 5z"/>`;
      return drawn + `<circle ${of} cx="${here}" cy="${middle}" r="${row.automatic ? 3 : 4.5}"/>`;
    },
  },
};
