// A chart: it takes the room that it has, whenever that is known, and may be gone again before it was ever drawn.
import { echarts } from "nicegui-echart";

export default {
  template: "<div></div>",
  props: { options: Object },
  mounted() {
    this.sizes = new ResizeObserver(() => this.fit());
    this.sizes.observe(this.$el);
  },
  beforeUnmount() {
    this.sizes.disconnect();
    this.chart?.dispose();
    this.chart = null;
  },
  watch: {
    options() {
      this.draw();
    },
  },
  methods: {
    fit() {
      if (!this.$el.clientWidth) return;
      if (this.chart) this.chart.resize();
      else {
        this.chart = Vue.markRaw(echarts.init(this.$el));
        this.draw();
      }
    },
    draw() {
      this.chart?.setOption(this.options, { notMerge: true });
    },
  },
};
