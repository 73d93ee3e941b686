package pool

import (
	"testing"
	"time"

	"enclave/sandbox"
	"enclave/sandbox/jail"
)

// TestAllWorkersTogetherAreBounded lets a run take what its own limit allows and the
// limit of all does not.
func TestAllWorkersTogetherAreBounded(t *testing.T) {
	g, err := jail.NewGroup(64 << 20)
	if err != nil {
		t.Skip(err)
	}
	g.Close()
	p := open(t, Config{Warm: 1, Memory: 96 << 20})
	spec := sandbox.Spec{Source: "const a = []; for (let i = 0; i < 400; i++) a.push('x'.repeat(1000000 + i)); return a.length", Level: sandbox.Strict,
		Tenant: "one", Gate: sandbox.GateOff, Limits: sandbox.Limits{MemoryBytes: 900 << 20, Iterations: 1 << 40, Timeout: time.Minute}}
	if res := p.Run(t.Context(), spec, &echo{}); res.OK || res.Error.Code != sandbox.CodeMemory {
		t.Errorf("%+v", describeResult(res))
	}
	spec.Source = "return 1"
	if res := p.Run(t.Context(), spec, &echo{}); !res.OK {
		t.Errorf("the next run: %s", describeResult(res))
	}
}

// TestNoCopyOfTheProgramInATightServer: its own limit counts too, not only that of its workers.
func TestNoCopyOfTheProgramInATightServer(t *testing.T) {
	for _, c := range []struct {
		workers, server int64
		want            bool
	}{{roomy, 0, true}, {roomy, roomy, true}, {roomy, roomy - 1, false}, {roomy - 1, 0, false}, {roomy - 1, 8 * roomy, false}} {
		if got := hasRoom(Config{Memory: c.workers}, c.server); got != c.want {
			t.Errorf("workers may hold %d, the server %d: %t", c.workers, c.server, got)
		}
	}
}
