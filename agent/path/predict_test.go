package path

import (
	"net/netip"
	"testing"
	"time"

	"enclave/wire"
)

func TestNextPorts(t *testing.T) {
	at := func(ports ...uint16) (out []netip.AddrPort) {
		for _, p := range ports {
			out = append(out, netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), p))
		}
		return out
	}
	for _, tt := range []struct {
		what        string
		seen        []netip.AddrPort
		first, last uint16 // of 10; 0: none
	}{
		{"counting", at(1024, 1026, 1025), 1027, 1036},
		{"counting with others in between", at(1024, 1030, 1031), 1032, 1041},
		{"by twos", at(40000, 40002, 40004), 40006, 40024},
		{"near the end", at(65530, 65531), 65532, 65535},
		{"random", at(10000, 33000, 61000), 0, 0},
		{"one says nothing", at(4000), 0, 0},
		{"none", nil, 0, 0},
	} {
		got := nextPorts(tt.seen, 10)
		if tt.first == 0 {
			if len(got) > 0 {
				t.Errorf("%s: guessed %v", tt.what, got)
			}
		} else if len(got) == 0 || len(got) > 10 || got[0].Port() != tt.first || got[len(got)-1].Port() != tt.last {
			t.Errorf("%s: guessed %v, want %d to %d", tt.what, got, tt.first, tt.last)
		}
	}
}

// TestGuessesAreBoundedAndAskedFor counts them in an hour.
func TestGuessesAreBoundedAndAskedFor(t *testing.T) {
	for _, n := range []int{0, 16, 10 * MaxPredict} {
		s := &sim{}
		now := start
		p := New(now, s.newTx)
		p.SetPrediction(n)
		p.SetNATs("easy", "hard")
		p.SetRelay("r1")
		named := []wire.Candidate{{Addr: netip.MustParseAddrPort("198.51.100.7:2000")}, {Addr: netip.MustParseAddrPort("198.51.100.7:2001")}}
		p.SetCandidates(now, named)
		guesses, rounds := 0, 0
		for end := now.Add(time.Hour); now.Before(end); {
			p.Traffic(now, now)
			out := p.Step(now)
			if out.CallMe {
				rounds++
			}
			for _, g := range out.Pings {
				if g.To != named[0].Addr && g.To != named[1].Addr {
					guesses++
				}
			}
			now = out.Next
		}
		if most := rounds * min(n, MaxPredict); guesses > most || n > 0 && guesses < most*9/10 {
			t.Errorf("%d guesses in %d rounds of at most %d", guesses, rounds, n)
		}
	}
}
