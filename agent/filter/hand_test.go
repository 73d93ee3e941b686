package filter

import (
	"testing"
	"time"

	"enclave/wire"
)

func TestEndedByHandIsResetAndMayOpenAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the wall clock")
	}
	w := join(t, both(wire.TCP)...)
	client, server := dialTCP(t, w, them4)
	other, otherServer := dialTCP(t, w, them6)
	echoes(t, client, server)
	echoes(t, other, otherServer)
	for _, h := range []*host{w.a, w.b} {
		cuts := h.table.End(func(peer wire.SystemID, f wire.Flow) bool {
			return peer == h.peer.id && f.Dst.Addr() == them4
		}, "by hand", time.Now())
		if len(cuts) != 1 || cuts[0].Cause != "by hand" || cuts[0].Flow.Dst.Port() != 80 {
			t.Fatalf("cuts %+v", cuts)
		}
		for _, pkt := range cuts[0].Local {
			h.put(pkt)
		}
		for _, pkt := range cuts[0].Remote {
			w.remote(h, pkt)
		}
	}
	endsAtOnce(t, "server", server)
	endsAtOnce(t, "client", client)
	echoes(t, other, otherServer) // the one that was not named goes on
	if n := len(w.a.table.Flows()); n != 1 {
		t.Errorf("%d flows live", n)
	}
	if cuts := w.a.table.End(func(wire.SystemID, wire.Flow) bool { return false }, "by hand", time.Now()); cuts != nil {
		t.Errorf("cuts %+v", cuts)
	}
	if v := w.a.table.Out(spec{proto: protoTCP, src: us4, dst: them4, sport: 40001, dport: 80, flags: tcpSYN}.bytes(), time.Now()); v != Accept {
		t.Errorf("%s: no grant has gone, and it may not be opened again", v)
	}
}
