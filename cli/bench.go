package cli

import (
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"enclave/e2e/bench"
)

func (a *app) bench() *cobra.Command {
	var cmds []*cobra.Command
	for _, b := range bench.All() {
		cmds = append(cmds, a.benchOf(b.Name, b.Short, b.Long, b))
	}
	cmds = append(cmds, &cobra.Command{Use: benchChild, Hidden: true, Args: exactly(), Short: "Be the other process of a measurement",
		RunE: func(c *cobra.Command, _ []string) error { return bench.Child(c.Context(), a.raw.In, a.raw.Out) }})
	cmds = append(cmds, a.benchOf("all", "Measure everything, one after the other",
		"Runs every bench. With --json the answer is a list of their results.", bench.All()...))
	return a.group("bench", "Measure this machine: figures beside their limits, as ratios", cmds...)
}

// benchChild is the command that makes this program the other process of a measurement.
const benchChild = "child"

// benchFlood is how long small packets are sent at the end of bench mesh.
const benchFlood = 10 * time.Second

// benchOf is a command that runs benches; one alone answers with its result and not
// with a list.
func (a *app) benchOf(name, short, long string, list ...bench.Bench) *cobra.Command {
	cfg := bench.Config{Child: []string{"bench", benchChild}, Flood: benchFlood}
	var quick bool
	cmd := &cobra.Command{Use: name, Short: short,
		Long: long + "\nPrints medians with their spread and the ratios, which are what compares across machines.",
		Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
			if cfg.Rounds < 1 || cfg.Each < 10*time.Millisecond {
				return usage("want at least one round of 10ms")
			}
			if cfg.Systems < minBenchSystems || cfg.Systems > maxBenchSystems {
				return usage("want %d to %d systems", minBenchSystems, maxBenchSystems)
			}
			if quick {
				cfg.Rounds, cfg.Each, cfg.Flood = 1, min(cfg.Each, 300*time.Millisecond), time.Second
			}
			ctx, stop := untilSignal(c.Context())
			defer stop()
			if !a.json {
				cfg.Progress = a.Err
			}
			var results []bench.Result
			for _, b := range list {
				res, err := b.Run(ctx, cfg)
				if err != nil {
					return err
				}
				results = append(results, res)
			}
			var answer any = results
			if len(list) == 1 && name != "all" {
				answer = results[0]
			}
			return a.print(answer, func(w io.Writer) { benchText(w, results) })
		}}
	f := cmd.Flags()
	f.IntVar(&cfg.Rounds, "rounds", 5, "how many rounds the medians are taken from")
	f.DurationVar(&cfg.Each, "each", time.Second, "length of one measurement")
	f.BoolVar(&quick, "quick", false, "one short round, for a look")
	cfg.Systems = minBenchSystems
	if slices.ContainsFunc(list, func(b bench.Bench) bool { return b.Sized }) {
		f.IntVar(&cfg.Systems, "systems", 1_000, "size of the organisation that is measured")
	}
	return cmd
}

// Below, teams do not fit into the organisation; above, its addresses do not.
const (
	minBenchSystems = 100
	maxBenchSystems = 100_000
)

func benchText(w io.Writer, results []bench.Result) {
	rows := [][]string{{"FIGURE", "MEDIAN", "SPREAD", "UNIT", "RATIO", "OF"}}
	for _, r := range results {
		for _, f := range r.Figures {
			ratio := "-"
			if f.Of != "" {
				ratio = digits(f.Ratio)
			}
			rows = append(rows, []string{f.Name, digits(f.Median), digits(f.Min) + " to " + digits(f.Max), f.Unit, ratio, orDash(f.Of)})
		}
	}
	table(w, rows...)
}

// digits shows three significant digits, which is more than such figures are worth.
func digits(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }
