package agent

import (
	"context"
	"time"

	"enclave/agent/uplink"
	"enclave/wire"
)

// answerAsk tells control which flows live, how peers are reached and what was refused,
// and ends flows by hand. An answer that is lost, or refused, costs nothing.
func (a *Agent) answerAsk(ctx context.Context, c *uplink.Client, q *wire.Ask) {
	p := a.parts.Load()
	if p == nil || len(q.Cut) > wire.MaxReportedFlows || len(q.Cause) > wire.MaxCauseLen {
		return
	}
	r := wire.FlowReport{ID: q.ID, Flows: []wire.ReportedFlow{}}
	o := p.overlay.Load()
	if o != nil {
		r.Cut = p.end(o, q)
	}
	if o != nil && q.Flows {
		for _, f := range o.liveFlows() {
			if len(r.Flows) == wire.MaxReportedFlows {
				r.More++
				continue
			}
			r.Flows = append(r.Flows, wire.ReportedFlow{Flow: f.Flow, Peer: f.Peer, Inbound: f.Inbound, Since: f.Since, Bytes: f.Bytes[0] + f.Bytes[1]})
		}
	}
	if o != nil && q.Denied {
		r.Denied = a.unknown.report(o.addrs[0])
		all := o.filter.Denials()
		for _, d := range all[:min(len(all), wire.MaxReportedDenials-len(r.Denied))] {
			r.Denied = append(r.Denied, wire.ReportedDenial{Proto: d.Proto, Src: d.Src, Dst: d.Dst, Inbound: d.Inbound,
				Reason: d.Reason.String(), Count: d.Count, First: d.First, Last: d.Last})
		}
	}
	if q.Peers {
		r.Peers = a.reportPeers()
	}
	if err := c.Flows(ctx, r); err != nil {
		a.log.Debug("control did not take the answer to its question", "error", err)
	}
}

// reportPeers is what the status says of peers, without what control knows anyway.
func (a *Agent) reportPeers() (out []wire.ReportedPeer) {
	all := a.Status().Peers
	for i := range all[:min(len(all), wire.MaxReportedPeers)] {
		s := &all[i]
		out = append(out, wire.ReportedPeer{ID: s.ID, Route: s.Route, Via: s.Via, Since: s.Since, RTT: s.RTT,
			WhyNotDirect: s.WhyNotDirect, Why: s.Why, LastHandshake: s.LastHandshake, Received: s.Received, Sent: s.Sent})
	}
	return out
}

// end cuts the flows that control names. Both ends are told as of any other cut.
func (p *parts) end(o *overlay, q *wire.Ask) int {
	if len(q.Cut) == 0 {
		return 0
	}
	named := make(map[wire.CutFlow]bool, len(q.Cut))
	for _, f := range q.Cut {
		named[f] = true
	}
	cuts := o.filter.End(func(peer wire.SystemID, f wire.Flow) bool {
		return named[wire.CutFlow{Peer: peer, Proto: f.Proto, Src: f.Src, Dst: f.Dst}]
	}, q.Cause, time.Now())
	p.cut(o, cuts)
	return len(cuts)
}
