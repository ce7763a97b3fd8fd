// One service: its instances, graphs, problems, changes and settings. Asks for its figures while it is shown.

import { html, useEffect, useState } from "/page/htm-preact.js"
import { bytes, clock, ms, num, span } from "/page/format.js"
import { Charts } from "/page/charts.js"
import { Changes, Dot, Figures, Problems, owner } from "/page/parts.js"
import { model, pastOf, serverNow, severity } from "/page/live.js"

const PACE = 1000
/** Rates of instances are those of so many answers. */
const ANSWERS = 5
const DOTS = { up: 'ok', backup: 'idle', drain: 'warn', down: 'bad', maintenance: 'warn' }

/** The last answers of /api/service, oldest first; empty: none yet, null: there is no such service. */
const useAnswers = (protocol, name) => {
  const [answers, setAnswers] = useState([])
  useEffect(() => {
    let ended = false, timer = 0
    setAnswers([])
    const ask = async () => {
      try {
        if (!document.hidden) {
          const answer = await fetch(`/api/service?protocol=${protocol}&name=${encodeURIComponent(name)}`)
          const one = answer.ok ? await answer.json() : null
          if (!ended) setAnswers(all => one ? [...(all || []).slice(1 - ANSWERS), one] : answer.status === 404 ? null : all)
        }
      } catch { /* the stream says that the balancer is away */ }
      if (!ended) timer = setTimeout(ask, PACE)
    }
    ask()
    return () => (ended = true, clearTimeout(timer))
  }, [protocol, name])
  return answers
}

const responses = (instance, kind) => instance.responses?.[kind] || 0

/** Per second, between the first and the last answer. */
const rates = (answers, instance) => {
  const [first, last] = [answers[0], answers[answers.length - 1]], seconds = (last.at - first.at) / 1000
  const before = first.service.instances.find(one => one.name === instance.name)
  if (seconds <= 0 || !before) return {}
  const rate = count => Math.max(0, count(instance) - count(before)) / seconds
  return { requests: rate(i => i.requests), e4: rate(i => responses(i, '4xx')), e5: rate(i => responses(i, '5xx')) }
}

const Instance = ({ instance, rate, now }) => html`<tr>
  <td class="who"><b>${instance.name}</b><code class="value">${instance.target}</code>${instance.resolved?.length > 0 && html`<small>${instance.resolved.join(', ')}</small>`}</td>
  <td class="state"><span><${Dot} kind=${DOTS[instance.state] || 'warn'} />${instance.state}${instance.since ? html` <small>${span(now / 1000 - instance.since)}</small>` : ''}</span>${instance.why && html`<small class="why">${instance.why}</small>`}</td>
  <td data-name="Weight">${instance.weight_now != null ? `${num(instance.weight_now)} of ${instance.weight}` : instance.weight}</td>
  <td data-name="Requests/s"><em class=${rate.requests ? '' : 'zero'}>${num(rate.requests)}</em></td>
  <td data-name="4xx/s"><em class=${rate.e4 ? '' : 'zero'}>${num(rate.e4)}</em></td>
  <td data-name="5xx/s"><em class=${rate.e5 ? 'bad' : 'zero'}>${num(rate.e5)}</em></td>
  <td data-name="Open"><em class=${instance.active ? '' : 'zero'}>${instance.active}${instance.max_connections ? ` of ${instance.max_connections}` : ''}</em></td>
  <td data-name="Total">${num(instance.requests)}</td>
  <td data-name="Out">${bytes(instance.bytes_out || 0)}</td>
  <td class="last">${instance.last_error ? html`<code>${instance.last_error}</code> <small>${instance.last_error_at ? span(now / 1000 - instance.last_error_at) + ' ago' : ''}</small>` : html`<em class="zero">none</em>`}
    ${instance.check && html`<small class="why">check: ${instance.check}${instance.check_ms != null ? `, ${instance.check_ms} ms` : ''}</small>`}</td>
</tr>`

const HEADS = ['Instance', 'State', 'Weight', 'Requests/s', '4xx/s', '5xx/s', 'Open', 'Total', 'Bytes out', 'Last error, check']

const settings = service => [['balance', service.balance], ['bounded', service.bounded], ['slow_start', service.slow_start], ['eject', service.eject], ['panic', service.panic],
  ['http_version', service.http_version], ['dns', service.dns], ['client_verify', service.client_verify], ['priority', service.rule.priority || null],
  ['match', service.rule.either ? 'any' : null], ['keep_virtual_path', service.rule.keep_virtual_path ? 'true' : null], ...Object.entries(service.bounds || {})].filter(([, value]) => value != null)

const rule = ({ hosts, paths, conditions, listen, default: rest }) => [...listen, ...hosts, ...paths.map(path => path.slice(path.indexOf('=') + 1)), conditions, rest ? 'everything else' : ''].filter(Boolean)

const STATES = ['well', 'has a problem', 'works in part', 'down']
const TONES = ['ok', 'warn', 'warn', 'bad']

export const Service = ({ protocol, name, theme }) => {
  const key = `${protocol}/${name}`, row = model.byKey.get(key), answers = useAnswers(protocol, name), points = pastOf(key)
  const [picked, pick] = useState(null)
  const changes = model.changes.filter(change => change.keys.some(one => owner(one.key) === key))
  const back = html`<a class="back" href="#/">Services</a>`
  const unserved = row ? null : answers?.[answers.length - 1]?.service
  if (answers === null || !row) return html`<div class="crumbs">${back}<span>/</span><h1>${name}</h1></div>
    <p class="card empty muted">${answers === null ? 'There is no such service, or no longer.' : unserved ? 'This service is not served.' : 'Reading…'}</p>
    ${unserved?.problems?.length > 0 && html`<section class="card attention"><header><h2>Problems</h2></header><${Problems} list=${unserved.problems} /></section>`}
    ${changes.length > 0 && html`<section class="card"><header><h2>Changes</h2></header><${Changes} changes=${changes} of=${key} /></section>`}`
  const last = answers[answers.length - 1], service = last?.service, now = serverNow(), state = severity(row)
  const retried = Object.entries(service?.retried || {}).map(([reason, count]) => `${reason} ${count}`).join(', ')
  return html`<div class="crumbs">${back}<span>/</span><h1>${name}</h1>${protocol === 'tcp' && html`<span class="tag">tcp</span>`}<span class="standing"><${Dot} kind=${TONES[state]} />${STATES[state]}</span></div>
    ${service && html`<p class="rules">${rule(service.rule).map(one => html`<code class="value">${one}</code>`)}</p>`}
    <${Figures} items=${[['Requests/s', num(row.rate)], ['4xx/s', num(row.e4)], ['5xx/s', num(row.e5), '', row.e5 ? 'bad' : ''], ['p50', ms(row.p50)], ['p99', ms(row.p99)],
      ['Open', num(row.active)], ['Queue', num(row.queue), '', row.queue ? 'warn' : ''], ['Instances', `${row.up}/${row.n}`, '', row.down ? 'bad' : ''],
      retried && ['Sent again', retried], service?.shed > 0 && ['Refused, full', num(service.shed), '', 'warn']]} />
    ${service?.problems?.length > 0 && html`<section class="card attention"><header><h2>Problems</h2></header><${Problems} list=${service.problems} /></section>`}
    <section class="card traffic"><${Charts} ...${{ points, range: 1800, least: 90, changes, picked, now: now / 1000, theme }} />
      <p class="foot muted">Since ${points.length ? clock(points[0][0] * 1000) : 'now'}, when this page was opened.</p></section>
    <section class="card"><header><h2>Instances</h2></header>
      ${service ? html`<div class="wide"><table><thead><tr>${HEADS.map(head => html`<th>${head}</th>`)}</tr></thead>
        <tbody>${service.instances.map(one => html`<${Instance} key=${one.name} instance=${one} rate=${rates(answers, one)} now=${now} />`)}</tbody></table></div>` : html`<p class="empty muted">Reading…</p>`}
    </section>
    <section class="card"><header><h2>Changes</h2><span class="muted">of this service</span></header>
      ${changes.length ? html`<${Changes} ...${{ changes, few: 20, of: key, pick, picked }} />` : html`<p class="empty muted">None since ${model.meta ? clock(model.meta.started) : 'the start'}.</p>`}</section>
    ${service && html`<section class="card"><header><h2>Settings</h2></header><dl class="settings">${settings(service).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl></section>`}`
}
