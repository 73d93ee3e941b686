package policy

import (
	"encoding/json"
	"fmt"
	"time"

	"enclave/wire"
)

// maxSpan bounds a timeline: within it every edge may have to be visited.
const maxSpan = 50 * 366 * 24 * time.Hour

// step is one packet at one instant, in the world before or after the change.
type step struct {
	at     time.Time
	after  bool
	packet question
}

func answerTimeline(doc []byte) answer {
	if l := checkJSON(doc, ""); l != nil {
		return refuse(peekID(doc), l)
	}
	var l problems
	o := l.object(doc, "")
	id := o.str("id")
	before, _ := l.world(o, "before", true)
	after, changes := l.world(o, "after", false)
	var changeAt time.Time
	if changes {
		changeAt = o.instant(o.need("change_at"))
	} else if changeAt = o.instant(o.take("change_at")); !changeAt.IsZero() {
		l.add("after", "is missing")
	}
	items, path := o.list("steps")
	steps := make([]step, len(items))
	for i, raw := range items {
		steps[i] = l.step(raw, index(path, i), changeAt)
		if i > 0 && steps[i].at.Before(steps[i-1].at) {
			l.add(field(index(path, i), "instant"), "is before that of the step before")
		}
		if i > 0 && steps[i-1].after && !steps[i].after {
			l.add(field(index(path, i), "state"), "the change is not undone")
		}
	}
	if n := len(steps); n > 0 && steps[n-1].at.Sub(steps[0].at) > maxSpan {
		l.add(path, "span more than 50 years")
	}
	o.done()
	if len(l) > 0 {
		return refuse(id, l)
	}
	verdicts := make([]verdict, len(steps))
	if len(steps) > 0 {
		tl := timeline{worlds: [2]*Engine{before.engine(steps[0].at)}, changeAt: changeAt, now: steps[0].at, table: NewFlows()}
		if tl.worlds[1] = tl.worlds[0]; changes {
			tl.worlds[1] = after.engine(steps[0].at)
		}
		for i, s := range steps {
			verdicts[i] = tl.play(s).words()
		}
	}
	return answer{ID: id, Verdicts: &verdicts}
}

func (l *problems) world(o *object, name string, must bool) (s snapshot, given bool) {
	raw, path := o.take(name)
	if raw == nil {
		if must {
			l.add(path, "is missing")
		}
		return s, false
	}
	w := l.object(raw, path)
	s = l.snapshot(w)
	w.done()
	return s, true
}

// step reads one step. Its state says which world it is in; without one the instant
// decides. At the instant of the change either may be named.
func (l *problems) step(raw json.RawMessage, path string, changeAt time.Time) (s step) {
	o := l.object(raw, path)
	defer o.done()
	s.at = o.instant(o.need("instant"))
	s.after = !changeAt.IsZero() && !s.at.Before(changeAt)
	raw, at := o.take("state")
	state, given := l.text1(raw, at)
	switch {
	case !given:
	case state != "before" && state != "after":
		l.add(at, "want before or after")
	case changeAt.IsZero() && state == "after":
		l.add(at, "there is no change")
	case state == "after" && s.at.Before(changeAt), state == "before" && s.at.After(changeAt) && !changeAt.IsZero():
		l.add(at, "contradicts the instant of the change")
	default:
		s.after = state == "after"
	}
	if raw, at = o.need("packet"); raw != nil {
		s.packet = l.packet(raw, at)
	}
	return s
}

// timeline plays steps on two worlds and one table of flows.
type timeline struct {
	worlds   [2]*Engine
	changeAt time.Time
	now      time.Time
	after    bool
	table    *Flows
}

func (tl *timeline) play(s step) Verdict {
	if s.after && !tl.after {
		// The old world holds until the change, the new one from then on.
		change := tl.changeAt
		if change.Before(tl.now) {
			change = tl.now
		}
		tl.table.settle(tl.worlds[0], tl.now, change.Add(-1))
		tl.now, tl.after = change, true
	}
	e := tl.worlds[0]
	if tl.after {
		e = tl.worlds[1]
	}
	tl.table.settle(e, tl.now, s.at)
	tl.now = s.at
	return tl.table.Packet(e, s.packet.Packet, s.packet.proto, s.at)
}

// Flows is a table of live flows, as a receiver keeps one. A flow lives exactly as long
// as some policy would allow it to be opened.
type Flows struct {
	live map[flowKey]flow
	cut  map[flowKey]string // why a flow that was live is not
}

// flowKey names a flow in the direction in which it was opened. The type of an ICMP
// request is part of it, so that a request with a known identifier is no reply.
type flowKey struct {
	Packet
	proto string // tells protocols apart that the filter cannot parse
}

// flow is who opened it to whom; an address that changes hands ends it.
type flow struct{ src, dst wire.SystemID }

// NewFlows returns an empty table.
func NewFlows() *Flows { return &Flows{make(map[flowKey]flow), make(map[flowKey]string)} }

func keyOf(q Packet, proto string) flowKey {
	q.Reply = false
	if q.Proto != wire.TCP && q.Proto != wire.UDP {
		q.SrcPort, q.DstPort = 0, 0
	}
	return flowKey{q, proto}
}

// answered returns the key of the flow to which q would be a reply.
func answered(q Packet, proto string) (k flowKey, ok bool) {
	k = keyOf(turn(q), proto)
	if q.Proto == wire.ICMP {
		k.ICMPType, ok = icmpRequestOf(q.Src.Is6(), q.ICMPType)
		return k, ok
	}
	return k, true
}

// Packet gives the verdict on one packet at now and opens the flow that it begins. An
// ICMP packet without a type is an echo, request or reply.
func (t *Flows) Packet(e *Engine, q Packet, proto string, now time.Time) Verdict {
	if q.Proto == wire.ICMP && !q.HasType {
		q.HasType, q.ICMPType = true, icmpEcho(q.Src.Is6(), q.Reply)
	}
	back, isReply := answered(q, proto)
	if _, live := t.live[back]; live && isReply {
		q.Reply = true
		return e.Evaluate(q, now)
	}
	if q.Proto == wire.ICMP && icmpIsError(q.Src.Is6(), q.ICMPType) {
		if k, ok := t.between(q); ok {
			v := e.Evaluate(k.Packet, now)
			v.Why = "an ICMP error about a live flow: " + v.Why
			return v
		}
	}
	v := deny("it belongs to no live flow")
	if !q.Reply {
		v = e.Evaluate(q, now)
	}
	if cause := t.cut[back]; !v.Allow && isReply && cause != "" {
		v.Why = cause
	}
	if k := keyOf(q, proto); v.Allow {
		t.live[k] = e.flow(q)
		delete(t.cut, k)
	}
	return v
}

// between finds a live flow between the addresses of q, in either direction: an error
// quotes a packet of such a flow. The question format does not say which one.
func (t *Flows) between(q Packet) (best flowKey, ok bool) {
	for k := range t.live {
		same := k.Src == q.Src && k.Dst == q.Dst
		if turned := k.Src == q.Dst && k.Dst == q.Src; (same || turned) && (!ok || k.less(best)) {
			best, ok = k, true
		}
	}
	return best, ok
}

// less gives keys between two addresses an order, so that verdicts are repeatable.
func (k flowKey) less(o flowKey) bool { return fmt.Sprint(k) < fmt.Sprint(o) }

func (e *Engine) flow(q Packet) (f flow) {
	if s := e.byAddr[q.Src]; s != nil {
		f.src = s.ID
	}
	if s := e.byAddr[q.Dst]; s != nil {
		f.dst = s.ID
	}
	return f
}

// settle cuts the flows that were not allowed at every instant of [from, to].
func (t *Flows) settle(e *Engine, from, to time.Time) {
	for k, f := range t.live {
		for at := from; !at.After(to); {
			end, ok := e.allowedUntil(k.Packet, at)
			if ok && e.flow(k.Packet) != f {
				ok = false
			}
			if !ok {
				delete(t.live, k)
				t.cut[k] = fmt.Sprintf("its flow was cut at %s: %s", at.Format(time.RFC3339Nano), e.whyCut(k.Packet, f, at))
				break
			}
			if end.IsZero() {
				break
			}
			at = end
		}
	}
}

func (e *Engine) whyCut(q Packet, f flow, now time.Time) string {
	if e.flow(q) != f {
		return "an address changed hands"
	}
	return e.whyNotFlow(q, now)
}

// allowedUntil returns the first instant after now at which the permission to open f
// may be gone, and whether there is one at now. Policies that relieve each other are
// for the caller, who asks again at that instant.
func (e *Engine) allowedUntil(f Packet, now time.Time) (end time.Time, ok bool) {
	src, dst := e.byAddr[f.Src], e.byAddr[f.Dst]
	if src == nil || src == dst || f.Src.Is4() != f.Dst.Is4() {
		return end, false
	}
	if dst != nil && joinedAt(src, dst, now) {
		return joined(src, dst)
	}
	for slot := range src.slots[senders].all() {
		r := e.slots[slot]
		if r.gateway != (dst == nil) || !r.active(now) || r.find(f, false) < 0 {
			continue
		}
		mine, stands := src.on(r, senders)
		theirs, there := e.otherEnd(r, src, dst, f, now)
		if !stands || over(mine, now) || !there {
			continue
		}
		until := sooner(sooner(mine, theirs), sooner(r.expires, r.hours.change(now)))
		if !ok {
			end, ok = until, true
		} else {
			end = later(end, until)
		}
	}
	return end, ok
}

// otherEnd returns until when the receiver, or some gateway that carries f, stands.
func (e *Engine) otherEnd(r *rules, src, dst *system, f Packet, now time.Time) (end time.Time, ok bool) {
	if dst != nil {
		end, ok = dst.on(r, receivers)
		return end, ok && !over(end, now)
	}
	for i := range r.gateways {
		g := &r.gateways[i]
		s := e.systems[g.id]
		if s == nil || s == src || !g.carries(s, f.Dst) {
			continue
		}
		if until, stands := s.on(r, receivers); stands && !over(until, now) {
			if !ok {
				end, ok = until, true
			} else {
				end = later(end, until)
			}
		}
	}
	return end, ok
}
