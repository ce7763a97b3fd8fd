// Pieces that several views share. They get what they show, and keep nothing.

import { html, useState } from "/page/htm-preact.js"
import { clock, ms, plural, span } from "/page/format.js"

export const link = key => {
  const cut = key.indexOf('/')
  return `#/service/${key.slice(0, cut)}/${encodeURIComponent(key.slice(cut + 1))}`
}

/** The service that a key belongs to: services/shop/domain is http/shop. */
export const owner = key => {
  const [tree, name] = key.split('/')
  return tree === 'services' ? `http/${name}` : tree === 'tcp-services' ? `tcp/${name}` : null
}

export const Dot = ({ kind }) => html`<i class=${'dot ' + kind} />`

/** The first few of a list, and the rest when asked for. */
const Some = ({ all, few, noun, children }) => {
  const [open, setOpen] = useState(false)
  const shown = open ? all : all.slice(0, few)
  return html`${shown.map(children)}${all.length > few && html`<button class="more" onClick=${() => setOpen(!open)}>
    ${open ? 'Show fewer' : `Show all ${plural(all.length, noun)}`}</button>`}`
}

const ProblemItem = ({ problem, serious }) => html`<li class="item">
  <${Dot} kind=${serious ? 'bad' : 'warn'} />
  <div><p class="head"><code class="key">${problem.key}</code>${problem.value != null && html` <code class="value">${problem.value}</code>`}
    <span class="tag">${problem.kind.replace(/_/g, ' ')}</span></p>
    <p class="advice">${problem.advice}</p></div>
  ${problem.service ? html`<a class="to" href=${link(`${problem.protocol}/${problem.service}`)}>${problem.service}</a>` : html`<span />`}
</li>`

const DownItem = ({ down, now }) => html`<li class="item">
  <${Dot} kind="bad" />
  <div><p class="head"><b>${down.name}</b> <code class="value">${down.target}</code> <span class="tag">${down.state}${down.since ? ` for ${span(now / 1000 - down.since)}` : ''}</span></p>
    <p class="advice">${down.why || down.error || ''}</p></div>
  <a class="to" href=${link(down.service)}>${down.service.slice(down.service.indexOf('/') + 1)}</a>
</li>`

/** What somebody should look at, worst first. */
export const Attention = ({ problems, down, now }) => {
  const all = [...down.map(one => ({ down: one })), ...problems.list.map(one => ({ problem: one }))]
  const rest = problems.count - problems.list.length
  if (!all.length) return null
  return html`<section class="card attention" aria-label="Needs attention">
    <header><h2>Needs attention</h2><span class="muted">${[down.length && plural(down.length, 'instance') + ' down', problems.count && plural(problems.count, 'problem')].filter(Boolean).join(', ')}</span></header>
    <ul class="items"><${Some} all=${all} few=${5} noun="entry">${one => one.down
      ? html`<${DownItem} key=${one.down.service + one.down.name} down=${one.down} now=${now} />`
      : html`<${ProblemItem} key=${one.problem.key + one.problem.kind} problem=${one.problem} />`}<//></ul>
    ${rest > 0 && html`<p class="foot muted">${plural(rest, 'more problem')}: <a href="/api/problems">/api/problems</a></p>`}
  </section>`
}

export const Problems = ({ list }) => html`<ul class="items">${list.map(problem => html`<${ProblemItem} key=${problem.key + problem.kind} problem=${problem} />`)}</ul>`

const Value = ({ change, side }) => html`<code class=${'value ' + side}>${change[side] ?? ''}</code>`

const KeyChange = ({ change }) => html`<span class="change">
  <code class="key">${change.key}</code>
  ${(change.secret || change.fate !== 'changed') && html`<span class="fate">${change.fate}</span>`}
  ${change.secret ? html`<code class="value hidden">hidden</code>`
    : change.fate === 'changed' ? html`<${Value} change=${change} side="before" /><span class="arrow">→</span><${Value} change=${change} side="after" />`
    : html`<${Value} change=${change} side=${change.fate === 'added' ? 'after' : 'before'} />`}
</span>`

/** Changes of the keys, newest first. `key`: only those of this service. */
export const Changes = ({ changes, few, pick, picked, of }) => html`<ol class="changes">${changes.slice(0, few).map(change => {
  const keys = of ? change.keys.filter(one => owner(one.key) === of) : change.keys
  return html`<${Change} key=${change.number} ...${{ change, keys, pick, isPicked: picked === change.number }} />`
})}</ol>`

const Change = ({ change, keys, pick, isPicked }) => {
  const [open, setOpen] = useState(false)
  const hidden = (open ? 0 : Math.max(0, keys.length - 3)) + (change.more || 0)
  const point = number => pick && pick(number)
  return html`<li class=${isPicked ? 'picked' : ''} onMouseEnter=${() => point(change.number)} onMouseLeave=${() => point(null)}>
    <time title=${new Date(change.at).toISOString()}>${clock(change.at)}</time>
    <span class="revision">${change.revision}</span>
    <div class="keys">
      ${change.first && html`<span class="muted">Started with ${plural(change.places, 'service')}</span>`}
      ${(open ? keys : keys.slice(0, 3)).map(one => html`<${KeyChange} key=${one.key} change=${one} />`)}
      ${hidden > 0 && html`<button class="more" onClick=${() => setOpen(true)} disabled=${open}>${hidden} more ${hidden === 1 ? 'key' : 'keys'}</button>`}
    </div>
    <span class="served">${change.served ? `served after ${ms(Math.max(0, change.served - change.at))}` : html`<b>not served yet</b>`}</span>
  </li>`
}

/** Figures in a row: name, value, unit, and whether it is bad. */
export const Figures = ({ items }) => html`<dl class="figures">${items.filter(Boolean).map(([name, value, note, tone]) => html`<div key=${name}>
  <dt>${name}</dt><dd class=${tone || ''}>${value}${note && html`<small>${note}</small>`}</dd></div>`)}</dl>`

export const Choice = ({ options, value, set, label }) => html`<div class="choice" role="group" aria-label=${label}>${options.map(([key, text]) => html`
  <button key=${key} aria-pressed=${key === value} onClick=${() => set(key)}>${text}</button>`)}</div>`

const KEYS = [['/', 'filter services'], ['j  k', 'next, previous service'], ['Enter', 'open the service'], ['Esc', 'back, clear the filter'],
  ['g', 'to the top'], ['t', 'light or dark'], ['?', 'this help']]

export const Help = ({ close }) => html`<div class="veil" onClick=${close}><div class="card help" role="dialog" aria-label="Keys" onClick=${event => event.stopPropagation()}>
  <header><h2>Keys</h2><button class="plain" aria-label="Close" onClick=${close}>Esc</button></header>
  <dl>${KEYS.map(([key, what]) => html`<div><dt>${key.split('  ').map(one => html`<kbd>${one}</kbd>`)}</dt><dd>${what}</dd></div>`)}</dl></div></div>`
