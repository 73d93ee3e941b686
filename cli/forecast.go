package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"enclave/wire"
	"enclave/wire/api"
)

// forecastRows is how many rows are printed unless all are asked for.
const forecastRows = 40

func (a *app) forecast() *cobra.Command {
	var days int
	var all bool
	c := &cobra.Command{Use: "forecast", Short: "Say what opens, closes and expires by itself, and when",
		Long: `Says what opens, closes and expires by itself, and when. What comes again at the same
time of day is told once, with the days on which it does; --all and --json list each.`, Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if days < 1 || days > 366 {
				return usage("--days %d: want 1 to 366", days)
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			list, err := cl.Forecast(c.Context(), days)
			if err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) { forecastText(w, list, days, all) })
		}}
	c.Flags().IntVar(&days, "days", 30, "how far to look")
	c.Flags().BoolVar(&all, "all", false, "list each opening and closing on a line of its own")
	return c
}

func forecastText(w io.Writer, list []api.Coming, days int, all bool) {
	if len(list) == 0 {
		fmt.Fprintf(w, "nothing changes by itself in the next %s\n", wire.Count(days, "day"))
		return
	}
	rows, most := [][]string{{"AT", "WHAT", "OBJECT", "NAME", "DETAIL", "WARNING"}}, forecastRows
	told := repeats(list)
	if all {
		told, most = told[:0], len(list)
		for i := range list {
			told = append(told, repeat{Coming: list[i]})
		}
	}
	for i := range told[:min(len(told), most)] {
		e := &told[i]
		rows = append(rows, []string{e.At.Format(time.RFC3339), e.Kind, e.Object, orDash(first(e.Name, e.ID)), clean(e.Detail + e.again()), orDash(e.Warning)})
	}
	table(w, rows...)
	if over := len(told) - most; over > 0 {
		fmt.Fprintf(w, "… and %d more: --all, or fewer --days\n", over)
	}
}

// repeat is something that comes, and when it comes again at the same time of day.
type repeat struct {
	api.Coming
	days []time.Time // of the other times, in order
}

// repeats gathers what differs in nothing but its day, in the order of the first of each.
// What comes twice only is told twice: two lines are as short as one that explains.
func repeats(list []api.Coming) (out []repeat) {
	count, place := make(map[api.Coming]int), make(map[api.Coming]int)
	for _, c := range list {
		count[daily(c)]++
	}
	for _, c := range list {
		key := daily(c)
		if at, told := place[key]; told && count[key] > 2 {
			out[at].days = append(out[at].days, c.At)
			continue
		}
		place[key] = len(out)
		out = append(out, repeat{Coming: c})
	}
	return out
}

// daily is c without its day.
func daily(c api.Coming) api.Coming {
	at := c.At.UTC()
	c.At = time.Date(1, 1, 1, at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), time.UTC)
	return c
}

// again says when it comes again, and how often.
func (r *repeat) again() string {
	if len(r.days) == 0 {
		return ""
	}
	var on [7]bool // from Monday
	for _, at := range append(slices.Clone(r.days), r.At) {
		on[(int(at.Weekday())+6)%7] = true
	}
	return fmt.Sprintf("; again %s, %s, the last on %s", weekdays(on), wire.Count(len(r.days), "time"), r.days[len(r.days)-1].Format(time.DateOnly))
}

// weekdays writes a set of days, from Monday: "daily", "Mon-Fri", "Mon, Wed-Thu".
func weekdays(on [7]bool) string {
	names := [...]string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}
	if !slices.Contains(on[:], false) {
		return "daily"
	}
	var parts []string
	for i := 0; i < len(on); i++ {
		from := i
		for i < len(on) && on[i] {
			i++
		}
		switch i - from {
		case 0:
		case 1:
			parts = append(parts, names[from])
		default:
			parts = append(parts, names[from]+"-"+names[i-1])
		}
	}
	return strings.Join(parts, ", ")
}
