package cli

import (
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"enclave/e2e/bench"
)

func (a *app) bench() *cobra.Command {
	var rounds int
	var each time.Duration
	mesh := &cobra.Command{Use: "mesh", Short: "Measure the overlay between two agents of this machine",
		Long: `Measures TCP goodput and round trips between two agents over loopback, in one process,
in turns with what the machine can do at most: the cipher alone and plain loopback TCP.
Prints medians with their spread and the ratios, which are what compares across machines.`,
		Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
			if rounds < 1 || each < 10*time.Millisecond {
				return usage("want at least one round of 10ms")
			}
			ctx, stop := untilSignal(c.Context())
			defer stop()
			cfg := bench.MeshConfig{Rounds: rounds, Each: each}
			if !a.json {
				cfg.Progress = a.Err
			}
			res, err := bench.Mesh(ctx, cfg)
			if err != nil {
				return err
			}
			return a.print(res, func(w io.Writer) { benchText(w, &res) })
		}}
	f := mesh.Flags()
	f.IntVar(&rounds, "rounds", 5, "how many rounds the medians are taken from")
	f.DurationVar(&each, "each", time.Second, "length of one measurement")
	return a.group("bench", "Measure this machine: figures beside their limits, as ratios", mesh)
}

func benchText(w io.Writer, r *bench.Result) {
	rows := [][]string{{"FIGURE", "MEDIAN", "SPREAD", "UNIT", "RATIO", "OF"}}
	for _, f := range r.Figures {
		ratio := "-"
		if f.Of != "" {
			ratio = digits(f.Ratio)
		}
		rows = append(rows, []string{f.Name, digits(f.Median), digits(f.Min) + " to " + digits(f.Max), f.Unit, ratio, orDash(f.Of)})
	}
	table(w, rows...)
}

// digits shows three significant digits, which is more than such figures are worth.
func digits(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }
