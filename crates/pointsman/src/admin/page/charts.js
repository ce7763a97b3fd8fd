// The graphs: traffic, errors, latency, with a mark where the keys changed. One cursor for all of them.

import { html, useEffect, useRef, useState } from "/page/htm-preact.js"
import { clock, ms, num } from "/page/format.js"

/* global uPlot */
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()
/** Seconds that a graph shows at least. */
const NARROWEST = 300

const KINDS = [
  { title: 'Requests', unit: '/s', show: num, lines: [{ name: 'requests', at: p => p[1][0], color: '--accent', fill: '--accent-soft' }, { name: 'TCP connections', at: p => p[1][1], color: '--faint', optional: true }] },
  { title: 'Errors', unit: '/s', show: num, lines: [{ name: '4xx', at: p => p[1][2], color: '--faint' }, { name: '5xx', at: p => p[1][3], color: '--red', fill: '--red-soft' }] },
  { title: 'Latency', unit: '', show: ms, lines: [{ name: 'p50', at: p => p[2], color: '--faint' }, { name: 'p99', at: p => p[3], color: '--accent' }] },
]

/** Vertical marks at the changes; the one that is pointed at stands out. */
const marks = context => ({
  hooks: {
    drawClear: u => {
      const { ctx, bbox } = u
      ctx.save()
      for (const change of context.changes) {
        const at = change.at / 1000
        if (at < u.scales.x.min || at > u.scales.x.max) continue
        const x = Math.round(u.valToPos(at, 'x', true)), is = context.picked === change.number
        ctx.strokeStyle = ctx.fillStyle = css(is ? '--accent' : '--mark')
        ctx.lineWidth = (is ? 2 : 1) * devicePixelRatio
        ctx.setLineDash(is ? [] : [3 * devicePixelRatio, 3 * devicePixelRatio])
        ctx.beginPath()
        ctx.moveTo(x, bbox.top)
        ctx.lineTo(x, bbox.top + bbox.height)
        ctx.stroke()
        const s = (is ? 5 : 4) * devicePixelRatio, y = bbox.top
        ctx.beginPath()
        ctx.moveTo(x - s, y - s)
        ctx.lineTo(x + s, y - s)
        ctx.lineTo(x, y + s)
        ctx.fill()
      }
      ctx.restore()
    },
  },
})

const options = (kind, width, height, context, onCursor) => {
  const axis = { stroke: css('--faint'), font: `11px ${css('--sans')}`, ticks: { show: false }, grid: { stroke: css('--grid'), width: 1 } }
  const line = l => ({ stroke: css(l.color), width: 1.5, fill: l.fill ? css(l.fill) : undefined, points: { show: false }, spanGaps: false })
  return {
    width, height, padding: [8, 16, 0, 0], legend: { show: false },
    cursor: { y: false, drag: { setScale: false, x: false, y: false }, sync: { key: 'pointsman' }, points: { size: 6 } },
    scales: { x: { time: true }, y: { range: (u, min, max) => [0, Math.max(max || 0, kind.show === ms ? 1 : 0.1) * 1.15] } },
    axes: [
      { ...axis, grid: { show: false }, size: 26, gap: 8, space: 70, values: (u, splits) => splits.map(at => clock(at * 1000, splits[1] - splits[0] >= 60)) },
      { ...axis, size: 46, gap: 6, space: 32, values: (u, values) => values.map(v => kind.show(v)) },
    ],
    series: [{}, ...kind.lines.map(line)],
    hooks: { setCursor: [u => onCursor(u.cursor.idx)] },
    plugins: [marks(context)],
  }
}

const Chart = ({ kind, points, from, to, context, theme }) => {
  const place = useRef(), plot = useRef(), [index, setIndex] = useState(null)
  const data = [points.map(p => p[0]), ...kind.lines.map(line => points.map(line.at))]
  const last = useRef(data)
  last.current = data
  useEffect(() => {
    const make = () => {
      plot.current?.destroy()
      const { clientWidth, clientHeight } = place.current
      plot.current = new uPlot(options(kind, clientWidth, clientHeight, context, setIndex), last.current, place.current)
    }
    make()
    const resized = new ResizeObserver(() => {
      const { clientWidth: width, clientHeight: height } = place.current
      if (width !== plot.current.width || height !== plot.current.height) plot.current.setSize({ width, height })
    })
    resized.observe(place.current)
    return () => (resized.disconnect(), plot.current?.destroy(), plot.current = null)
  }, [theme, kind])
  useEffect(() => {
    plot.current.setData(data, false)
    plot.current.setScale('x', { min: from, max: to })
  })
  const shown = index != null && points[index] ? index : points.length - 1
  const point = points[shown]
  const used = kind.lines.filter(line => !line.optional || points.some(p => line.at(p) > 0))
  return html`<figure class="chart">
    <figcaption><b>${kind.title}</b><span class="legend">
      ${index != null && point && html`<time>${clock(point[0] * 1000)}</time>`}
      ${used.map(line => html`<span><i class=${'key key' + line.color} />${line.name} <em>${point ? kind.show(line.at(point)) + kind.unit : '–'}</em></span>`)}
    </span></figcaption>
    <div class="plot" ref=${place} />
  </figure>`
}

/** `points`: as of /api/history. `range`: seconds. */
export const Charts = ({ points, range, changes, picked, now, theme, least = NARROWEST }) => {
  const context = useRef({}).current
  const first = points.length ? points[0][0] : now
  const to = Math.max(now, points.length ? points[points.length - 1][0] : now)
  const from = Math.min(Math.max(to - range, first), to - least)
  Object.assign(context, { changes, picked })
  const within = points.filter(p => p[0] >= from)
  return html`<div class="charts">${KINDS.map(kind => html`<${Chart} key=${kind.title} ...${{ kind, points: within, from, to, context, theme }} />`)}</div>`
}

/** The last minute of a row, as a small line. */
export const Spark = ({ values }) => {
  if (!values) return html`<svg class="spark" />`
  const known = values.findIndex(value => value >= 0), most = Math.max(...values.subarray(known), 1e-9), last = values.length - 1
  const dot = (value, i) => `${(i / last * 56).toFixed(1)} ${(15 - value / most * 13).toFixed(1)}`
  const path = 'M' + Array.from(values, dot).slice(known).join('L')
  return html`<svg class="spark" viewBox="0 0 56 16" aria-hidden="true"><path d=${path} /></svg>`
}
