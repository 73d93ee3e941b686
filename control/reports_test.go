package control

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"enclave/control/admin"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

// agents answer the next question that comes down each stream.
func agents(t *testing.T, answer func(f *feed, q *wire.Ask) wire.FlowReport, feeds ...*feed) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		for _, f := range feeds {
			for {
				msg := f.next()
				if msg.Ask == nil {
					continue
				}
				r := answer(f, msg.Ask)
				r.ID = msg.Ask.ID
				if p := f.m.call("POST", wire.PathFlows, r, nil); p != nil {
					t.Error(p)
				}
				break
			}
		}
	}()
	return done
}

func TestAFlowIsCutByHand(t *testing.T) {
	w := newWorld(t)
	a, b, fa, fb := pairOf(t, w)
	flow := wire.Flow{Proto: wire.TCP, Src: netip.MustParseAddrPort("100.64.0.1:40000"), Dst: netip.MustParseAddrPort("100.64.0.2:22")}
	lives := func(f *feed, q *wire.Ask) (r wire.FlowReport) {
		if !q.Flows || len(q.Cut) != 0 {
			t.Errorf("asked %+v", q)
		}
		if f == fb {
			r.Flows = []wire.ReportedFlow{{Flow: flow, Peer: a.id, Inbound: true, Since: time.Now()}}
		}
		return r
	}
	body := map[string]any{"from": "a", "to": "b", "protocol": "tcp", "port": 22}
	// Only tried, and refused without a record: no agent is told to cut.
	done := agents(t, lives, fa, fb)
	var got api.FlowsCut
	w.api("POST", "/flows/cut?dry_run=true", body, &got)
	<-done
	if len(got.Flows) != 1 || got.Ends != 0 || got.Flows[0].Names != [2]string{"a", "b"} {
		t.Errorf("tried %+v", got)
	}
	done = agents(t, lives, fa, fb)
	w.refusesUnrecorded("POST", "/flows/cut", body)
	<-done

	before := w.lastRecord()
	done = agents(t, lives, fa, fb)
	cut := make(chan struct{})
	go func() {
		defer close(cut)
		<-done
		<-agents(t, func(f *feed, q *wire.Ask) wire.FlowReport {
			peer := a.id
			if f == fa {
				peer = b.id
			}
			if len(q.Cut) != 1 || q.Cut[0] != (wire.CutFlow{Peer: peer, Proto: wire.TCP, Src: flow.Src, Dst: flow.Dst}) || q.Cause != "cut by hand by root" {
				t.Errorf("asked %+v", q)
			}
			return wire.FlowReport{Cut: 1}
		}, fa, fb)
	}()
	resp := w.api("POST", "/flows/cut?reason=it+is+odd", body, &got)
	<-cut
	if len(got.Flows) != 1 || got.Ends != 2 {
		t.Errorf("cut %+v", got)
	}
	w.wantOneRecord("flow-cut", before, resp.Header.Get(admin.RequestHeader))
	list, err := w.store.Audit(t.Context(), store.AuditQuery{After: before})
	if err != nil || len(list) == 0 || list[0].Action != "flow.cut" || list[0].Object != "system:"+string(b.id) {
		t.Errorf("record %+v, %v", list, err)
	}

	done = agents(t, lives, fa, fb)
	body["port"] = 23
	if _, p := w.tryAPI("POST", "/flows/cut", body, nil); p == nil || p.Status != http.StatusNotFound || !strings.Contains(p.Detail, "no such flow from a to b") {
		t.Errorf("%+v", p)
	}
	<-done
}

func TestPathsAndDenialsAreTold(t *testing.T) {
	inBubble(t, store.DefaultSettings(), func(t *testing.T, w *world) { // nobody is too slow to answer
		a, b, fa, fb := pairOf(t, w)
		done := agents(t, func(_ *feed, q *wire.Ask) wire.FlowReport {
			if !q.Peers {
				t.Errorf("asked %+v", q)
			}
			return wire.FlowReport{Peers: []wire.ReportedPeer{{ID: b.id, Route: "direct", Via: "192.0.2.7:1", RTT: time.Millisecond}, {ID: "other", Route: "relay"}}}
		}, fa)
		var paths api.Page[api.PeerPath]
		w.api("GET", "/systems/a/peers", nil, &paths)
		<-done
		if len(paths.Items) != 1 || paths.Items[0].Name != "b" || paths.Items[0].RTT != time.Millisecond {
			t.Errorf("paths %+v", paths.Items) // the other is introduced by no policy
		}
		sys, err := w.store.System(t.Context(), a.id)
		if err != nil {
			t.Fatal(err)
		}
		c := w.machine()
		c.enrol(w.key(automatic("others")).Secret, "c")
		third, err := w.store.System(t.Context(), c.id)
		if err != nil {
			t.Fatal(err)
		}
		done = agents(t, func(f *feed, q *wire.Ask) (r wire.FlowReport) {
			if !q.Denied {
				t.Errorf("asked %+v", q)
			}
			if f == fb {
				r.Denied = []wire.ReportedDenial{{Proto: wire.TCP, Src: sys.IPv4, Dst: netip.MustParseAddrPort("192.0.2.9:25"), Inbound: true, Reason: "no rule", Count: 3, Last: time.Now()},
					{Proto: wire.TCP, Src: third.IPv4, Dst: netip.MustParseAddrPort("0.0.0.0:443"), Name: "payroll.enclave", Reason: "unknown name", Count: 2, Last: time.Now()},
					// What it cannot have seen: a third system tried something at a fourth.
					{Proto: wire.TCP, Src: sys.IPv4, Dst: netip.AddrPortFrom(third.IPv4, 22), Inbound: true, Reason: "no rule", Count: 1, Last: time.Now()}}
			}
			return r
		}, fa, fb)
		named := 0
		var denied api.Page[api.Denied]
		w.api("GET", "/flows/denied", nil, &denied)
		<-done
		denied.Items = slices.DeleteFunc(denied.Items, func(d api.Denied) bool {
			if d.Name == "" {
				return false
			}
			if d.Name != "payroll.enclave" || d.At != b.id || d.From != b.id || d.To != "" || d.Names != [2]string{"b", "payroll.enclave"} || d.Dst.Port() != 443 {
				t.Errorf("a name that stands for nobody: %+v", d)
			}
			named++
			return true
		})
		if named != 1 {
			t.Errorf("%d names that stand for nobody", named)
		}
		if len(denied.Items) != 1 || denied.Items[0].AtName != "b" || denied.Items[0].Names != [2]string{"a", ""} || denied.Items[0].From != a.id {
			t.Errorf("denied %+v", denied.Items)
		}
		if _, p := w.tryAPI("GET", "/systems/nobody/peers", nil, nil); p == nil || p.Status != http.StatusNotFound {
			t.Errorf("%+v", p)
		}
		for name, r := range map[string]wire.FlowReport{
			"a route of no kind": {Peers: []wire.ReportedPeer{{Route: "magic"}}},
			"a long reason":      {Denied: []wire.ReportedDenial{{Proto: wire.TCP, Src: sys.IPv4, Dst: netip.MustParseAddrPort("192.0.2.9:25"), Reason: strings.Repeat("x", 200)}}},
			"what is no name":    {Denied: []wire.ReportedDenial{{Proto: wire.Any, Src: sys.IPv4, Dst: netip.MustParseAddrPort("0.0.0.0:0"), Name: "\x1b[31m"}}},
			"too many":           {Denied: slices.Repeat([]wire.ReportedDenial{{Proto: wire.TCP, Src: sys.IPv4, Dst: netip.MustParseAddrPort("192.0.2.9:25")}}, wire.MaxReportedDenials+1)},
		} {
			r.ID = "x"
			if p := a.call("POST", wire.PathFlows, r, nil); p == nil {
				t.Errorf("%s is taken", name)
			}
		}
	})
}
