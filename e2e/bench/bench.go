// Package bench measures the product on the user's machine: what it does beside what
// the machine could do at most, in one run, as ratios.
//
// Absolute numbers differ from machine to machine and from minute to minute; a ratio
// of two medians taken in turns does not. Every figure is the median of several
// rounds, with the spread beside it. The method is in docs/bench.md.
package bench

import (
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
	// Of is the figure this one is compared with, Ratio the quotient of the medians.
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

// Result is a whole run.
type Result struct {
	Rounds  int           `json:"rounds"`
	Each    time.Duration `json:"each_ns"`
	CPUs    int           `json:"cpus"`
	Figures []Figure      `json:"figures"`
}

// gbits is bytes in a time as Gbit/s.
func gbits(bytes int64, d time.Duration) float64 {
	return float64(bytes) * 8 / d.Seconds() / 1e9
}
