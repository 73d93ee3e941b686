package world

import (
	"slices"
	"testing"

	"enclave/cli/client"
	"enclave/wire"
	"enclave/wire/api"
)

// TestAFlowCutByHandMayBeOpenedAgain: both ends are reset, no grant goes.
func TestAFlowCutByHandMayBeOpenedAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("TCP over the simulated internet needs the wall clock")
	}
	t.Parallel()
	s := newStage(t, nil)
	paths, err := s.API.Paths(s.ctx, "laptop")
	s.must(err)
	if len(paths) != 1 || paths[0].Name != "server" || paths[0].Route == "none" || paths[0].Received == 0 {
		t.Errorf("paths %+v", paths)
	}
	tried, err := s.API.With(client.Wish{DryRun: true}).CutFlows(s.ctx, api.CutFlows{From: "laptop", To: "server"})
	s.must(err)
	if len(tried.Flows) != 1 || tried.Ends != 0 || tried.Flows[0].PolicyName != "p" {
		t.Errorf("tried %+v", tried)
	}
	cut, err := s.API.CutFlows(s.ctx, api.CutFlows{From: "laptop", To: "server", Proto: wire.TCP, Src: tried.Flows[0].Src, Dst: tried.Flows[0].Dst})
	s.must(err)
	if len(cut.Flows) != 1 || cut.Ends != 2 {
		t.Errorf("cut %+v", cut)
	}
	s.cut("cut by hand by")
	again, err := s.laptop.DialContext(s.ctx, "tcp", "server.enclave:80")
	s.must(err)
	again.Close()

	// What was on its way when the flow ended belongs to none: the filters say so.
	denied, err := s.API.Denied(s.ctx)
	s.must(err)
	if !slices.ContainsFunc(denied, func(d api.Denied) bool { return d.Names == [2]string{"laptop", "server"} && d.Dst.Port() == 80 }) {
		t.Errorf("denied %+v", denied)
	}
}
