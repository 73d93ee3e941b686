// Package bench measures the product on the user's machine: what it does beside what
// the machine could do at most, in one run, as ratios.
//
// Absolute numbers differ from machine to machine and from minute to minute; a ratio
// of two medians taken in turns does not. Every figure is the median of several
// rounds, with the spread beside it. The method is in docs/bench.md.
package bench

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// Figure is one measured quantity.
type Figure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"`
	// Of is the figure this one is compared with, Ratio the quotient of the medians, or of
	// several streams beside one the median of the quotients of the rounds.
	Of    string  `json:"of,omitempty"`
	Ratio float64 `json:"ratio,omitempty"`
}

func figure(name, unit string, rounds []float64) Figure {
	s := slices.Sorted(slices.Values(rounds))
	return Figure{Name: name, Unit: unit, Rounds: rounds, Median: s[len(s)/2], Min: s[0], Max: s[len(s)-1]}
}

func (f Figure) of(g Figure) Figure {
	f.Of, f.Ratio = g.Name, f.Median/g.Median
	return f
}

// inTurnsWith compares f with g, which was measured beside it in the same rounds.
func (f Figure) inTurnsWith(g Figure) Figure {
	var rounds []float64
	for i, v := range f.Rounds {
		rounds = append(rounds, v/g.Rounds[i])
	}
	f.Of, f.Ratio = g.Name, figure("", "", rounds).Median
	return f
}

// Config says how to measure.
type Config struct {
	Rounds   int
	Each     time.Duration // of one measurement, at least
	Systems  int           // of the organisation that Policy measures
	Flood    time.Duration // of the small packets at the end of Mesh; 0 leaves them out
	Child    []string      // arguments that make this program a Child; nil: no second process
	Progress io.Writer     // a line a round; may be nil
}

func (c *Config) progress(bench string, round int) {
	if c.Progress != nil {
		fmt.Fprintf(c.Progress, "%s: round %d of %d\n", bench, round+1, c.Rounds)
	}
}

// Bench is something that can be measured.
type Bench struct {
	Name, Short, Long string
	Sized             bool // it measures an organisation of Config.Systems
	Run               func(context.Context, Config) (Result, error)
}

// All lists what can be measured, in the order in which all of it is.
func All() []Bench {
	return []Bench{
		{"mesh", "Measure the overlay between two agents of this machine",
			`Measures goodput, round trips and small packets between two agents over loopback, in one
process and in two, in turns with what the machine can do at most (the cipher alone,
plain loopback TCP) and with wireguard-go as it comes.`, false, Mesh},
		{"relay", "Measure the relay under overload",
			`Measures packets of 1,420 bytes that the relay delivers for a second of its processor time,
with one pair of clients and with four, each pouring as fast as it is taken, in turns with
two spliced TLS connections, which know no frames, names or tickets; and one TCP stream
through the relay beside the same on the direct path, by UDP and by TCP.`, false, Relay},
		{"flood", "Measure a stream while a hostile process floods",
			`Measures one TCP stream between two agents while another process pours bogus handshakes,
probes and STUN requests, as fast as it can, at the receiver's socket and at the relay's
STUN; in turns with no flood, and with one at a bystander, which shows what the sending
alone takes from the stream where all share one machine.`, false, Flood},
		{"filter", "Measure what the filter costs a packet",
			`Measures the receiver's filter on packets of live flows in random order, one by one and by
the batch, with 10, 1,000 and 10,000 grants and flows, and on a flood that it refuses, in
turns with one look-up of the same tuple in a hash table.`, false, Filter},
		{"policy", "Measure the policy engine and what follows from changes",
			`Measures an organisation of many systems, 50 tags and 1,000 policies, everybody connected:
all of it compiled from nothing, beside one policy, one tag of one system and one
explanation, up to the encoded messages; and verdicts beside look-ups in a hash table.`, true, Policy},
		{"store", "Measure what the seal of the state costs",
			`Measures small changes, each with its audit record and its sync to the disk, in a sealed
state and in one in clear, in turns; then a rotation of the seal, a backup, and for how
long writers wait. It takes place in the system's directory for temporary files.`, false, Store},
		{"sandbox", "Measure runs of scripts behind their walls",
			`Measures what a run of a script costs with all walls that this machine gives: cold and
warm, a process a run and with reuse, with tool calls, and beside hostile runs that take
all the processor they get; and the engine beside the interpreter as it comes.`, false, Sandbox},
	}
}

// Result is a whole run of one bench.
type Result struct {
	Bench   string        `json:"bench"`
	Rounds  int           `json:"rounds"`
	Each    time.Duration `json:"each_ns"`
	CPUs    int           `json:"cpus"`
	Figures []Figure      `json:"figures"`
}

// gbits is bytes in a time as Gbit/s.
func gbits(bytes int64, d time.Duration) float64 {
	return float64(bytes) * 8 / d.Seconds() / 1e9
}
