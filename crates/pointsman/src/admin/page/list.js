// The list of services: filter, order, and only the rows that are seen. 10,000 services are as fluid as ten.

import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "/page/htm-preact.js"
import { ms, num, plural } from "/page/format.js"
import { Spark } from "/page/charts.js"
import { Choice, Dot, link } from "/page/parts.js"
import { isFailing, severity } from "/page/live.js"

/** How often rows take a new order, in milliseconds: figures may move, rows should not jump. */
const REORDER = 3000
/** Rows drawn beyond what is seen. */
const BEYOND = 8
const NARROW = matchMedia('(max-width: 760px)')

const COLUMNS = [
  ['name', 'Service', null], ['up', 'Instances', r => r.n ? r.up / r.n - r.n / 1e6 : -1], ['rate', 'Requests/s', r => -r.rate], ['e4', '4xx/s', r => -r.e4],
  ['e5', '5xx/s', r => -r.e5], ['p50', 'p50', r => -(r.p50 ?? -1)], ['p99', 'p99', r => -(r.p99 ?? -1)], ['active', 'Open', r => -r.active], ['queue', 'Queue', r => -r.queue],
]

const byName = (a, b) => a.key < b.key ? -1 : a.key > b.key ? 1 : 0

/** `sort`: a column's name, with a `-` the other way round; empty: what hurts first. */
const ordered = (rows, sort) => {
  const back = sort[0] === '-' ? -1 : 1, column = COLUMNS.find(([name]) => name === sort.replace('-', ''))
  const value = column ? column[2] : row => -severity(row)
  if (!value) return rows.sort((a, b) => back * byName(a, b))
  const keys = new Map(rows.map(row => [row, value(row)]))
  return rows.sort((a, b) => back * (keys.get(a) - keys.get(b)) || byName(a, b))
}

const matches = (row, words, kind) =>
  (kind === 'all' || (kind === 'trouble' ? severity(row) > 0 : kind === 'drained' ? row.drained > 0 : row.protocol === kind))
  && words.every(word => row.text.includes(word))

/** The rows in their order, taken anew when the question changes and every few seconds. */
export const useRows = (model, filter, kind, sort) => {
  const slot = Math.floor(Date.now() / REORDER)
  return useMemo(() => {
    const words = filter.toLowerCase().split(/\s+/).filter(Boolean)
    return ordered([...model.rows.values()].filter(row => matches(row, words, kind)), sort)
  }, [model.names, filter, kind, sort, slot])
}

const Instances = ({ row }) => {
  const most = 8, shown = Math.min(row.n, most), part = count => Math.round(count * shown / Math.max(row.n, 1))
  const bad = row.down ? Math.max(1, part(row.down)) : 0, out = row.drained ? Math.max(1, part(row.drained)) : 0
  const kind = i => i < shown - bad - out ? 'up' : i < shown - bad ? 'out' : 'bad'
  return html`<span class="instances"><span class="ticks">${Array.from({ length: shown }, (_, i) => html`<i class=${kind(i)} />`)}</span><em class=${row.down ? 'bad' : ''}>${row.up}/${row.n}</em></span>`
}

const STATES = ['ok', 'warn', 'warn', 'bad']

const note = row => [row.flags & 1 && 'all used (panic)', row.flags & 2 && 'last good settings', row.problems && plural(row.problems, 'problem'), isFailing(row) && `${Math.min(100, Math.round(row.e5 / row.rate * 100))} % fail`,
  row.n === 0 && 'no instances', row.n > 0 && row.drained === row.n && 'drained'].filter(Boolean).join(', ')

const zero = value => value ? '' : 'zero'

const Row = ({ row, top, isPicked, index }) => html`<a class=${'row' + (isPicked ? ' picked' : '')} href=${link(row.key)} style=${{ transform: `translateY(${top}px)` }} aria-rowindex=${index + 1}>
  <span class="name"><${Dot} kind=${STATES[severity(row)]} /><b>${row.name}</b>${row.protocol === 'tcp' && html`<span class="tag">tcp</span>`}<span class="rule">${row.rule}</span>${note(row) && html`<span class="note">${note(row)}</span>`}</span>
  <${Instances} row=${row} />
  <span class="rate"><${Spark} values=${row.spark} /><em class=${zero(row.rate)}>${num(row.rate)}</em></span>
  <em class=${'e4 ' + zero(row.e4)}>${num(row.e4)}</em>
  <em class=${'e5 ' + (row.e5 ? 'bad' : 'zero')}>${num(row.e5)}</em>
  <em class=${'p50 ' + zero(row.p50)}>${ms(row.p50)}</em>
  <em class=${'p99 ' + zero(row.p99)}>${ms(row.p99)}</em>
  <em class=${'active ' + zero(row.active)}>${num(row.active)}</em>
  <em class=${'queue ' + (row.queue ? 'warn' : 'zero')}>${num(row.queue)}</em>
</a>`

/** The part of the list that is seen: first and last row. */
const useWindow = (place, count, height) => {
  const [range, setRange] = useState([0, 40])
  useLayoutEffect(() => {
    let asked = 0
    const look = () => {
      asked = 0
      const above = -place.current.getBoundingClientRect().top
      const first = Math.max(0, Math.floor(above / height) - BEYOND)
      const last = Math.min(count, Math.ceil((above + innerHeight) / height) + BEYOND)
      setRange(old => old[0] === first && old[1] === last ? old : [first, Math.max(first, last)])
    }
    const ask = () => { asked ||= requestAnimationFrame(look) }
    look()
    addEventListener('scroll', ask, { passive: true })
    addEventListener('resize', ask)
    return () => (removeEventListener('scroll', ask), removeEventListener('resize', ask), cancelAnimationFrame(asked))
  }, [count, height])
  return range
}

const useHeight = () => {
  const [narrow, setNarrow] = useState(NARROW.matches)
  useEffect(() => {
    const turned = () => setNarrow(NARROW.matches)
    NARROW.addEventListener('change', turned)
    return () => NARROW.removeEventListener('change', turned)
  }, [])
  return narrow ? 62 : 40
}

const Heads = ({ sort, setSort }) => html`<div class="heads" role="row">${COLUMNS.map(([name, title]) => {
  const way = sort === name ? 'down' : sort === '-' + name ? 'up' : ''
  return html`<button key=${name} class=${name + (way ? ' by' : '')} onClick=${() => setSort(way === 'down' ? '-' + name : way === 'up' ? '' : name)}>${title}<i>${way === 'down' ? '↓' : way === 'up' ? '↑' : ''}</i></button>`
})}</div>`

/** Scrolls so that the row at `index` is seen. */
const reveal = (place, index, height) => {
  const top = place.getBoundingClientRect().top + index * height, upper = 150
  if (top < upper) scrollBy(0, top - upper)
  else if (top + height > innerHeight - 16) scrollBy(0, top + height - innerHeight + 16)
}

export const List = ({ model, view, setView, picked, rows }) => {
  const place = useRef(), height = useHeight()
  const [first, last] = useWindow(place, rows.length, height)
  useEffect(() => { if (picked >= 0) reveal(place.current, picked, height) }, [picked])
  const all = [...model.rows.values()], trouble = all.filter(row => severity(row) > 0).length
  const kinds = [['all', `All ${all.length.toLocaleString('en')}`], ['trouble', `Trouble ${trouble.toLocaleString('en')}`]]
  if (all.some(row => row.drained)) kinds.push(['drained', 'Draining'])
  if (all.some(row => row.protocol === 'tcp')) kinds.push(['http', 'HTTP'], ['tcp', 'TCP'])
  const set = change => setView({ ...view, ...change })
  return html`<section class="services" aria-label="Services">
    <div class="tools"><h2>Services</h2>
      <${Choice} label="Which services" options=${kinds} value=${view.kind} set=${kind => set({ kind })} />
      <label class="filter"><input id="filter" type="search" placeholder="Filter by name, host or instance" value=${view.filter} spellcheck=${false} autocomplete="off" aria-label="Filter services"
        onInput=${event => set({ filter: event.target.value })} /><kbd>/</kbd></label>
    </div>
    <${Heads} sort=${view.sort} setSort=${sort => set({ sort })} />
    <div class="rows" ref=${place} role="table" aria-rowcount=${rows.length} style=${{ height: `${rows.length * height}px` }}>
      ${rows.slice(first, last).map((row, i) => html`<${Row} key=${row.id} row=${row} top=${(first + i) * height} index=${first + i} isPicked=${picked === first + i} />`)}
    </div>
    ${rows.length === 0 && html`<p class="empty muted">${all.length ? 'No service matches.' : 'There are no services yet.'}</p>`}
  </section>`
}
