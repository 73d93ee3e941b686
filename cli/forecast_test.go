package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"enclave/wire/api"
)

func TestAForecastTellsWhatComesDailyOnce(t *testing.T) {
	monday := time.Date(2027, 3, 1, 8, 0, 0, 0, time.UTC)
	var list []api.Coming
	for day := range 28 {
		at := monday.AddDate(0, 0, day)
		if on := at.Weekday(); on != time.Saturday && on != time.Sunday {
			list = append(list, api.Coming{At: at, Kind: "opens", Object: "policy", ID: "p", Name: "office", Detail: "the active hours of policy p begin"},
				api.Coming{At: at.Add(9 * time.Hour), Kind: "closes", Object: "policy", ID: "p", Name: "office", Detail: "the active hours of policy p end"})
		}
		if day == 3 {
			list = append(list, api.Coming{At: at.Add(time.Hour), Kind: "expires", Object: "system", ID: "s", Detail: "system s expires", Warning: "leaves no sender for t"})
		}
		if day == 5 || day == 12 { // twice only
			list = append(list, api.Coming{At: at, Kind: "opens", Object: "policy", ID: "q", Detail: "the active hours of policy q begin"})
		}
	}
	text := func(list []api.Coming, all bool) string {
		var b strings.Builder
		forecastText(&b, list, 28, all)
		return b.String()
	}
	short := text(list, false)
	if n := strings.Count(short, "\n"); n != 6 {
		t.Errorf("%d lines:\n%s", n, short)
	}
	for _, want := range []string{
		"the active hours of policy p begin; again Mon-Fri, 19 times, the last on 2027-03-26",
		"the active hours of policy p end; again Mon-Fri, 19 times", "leaves no sender for t",
	} {
		if !strings.Contains(short, want) {
			t.Errorf("no %q in\n%s", want, short)
		}
	}
	if long := text(list, true); strings.Count(long, "\n") != 1+len(list) || strings.Contains(long, "again") {
		t.Errorf("all of %d:\n%s", len(list), long)
	}
	var many []api.Coming
	for i := range forecastRows + 3 {
		many = append(many, api.Coming{At: monday, Kind: "expires", Object: "key", ID: fmt.Sprint(i), Detail: "it expires"})
	}
	if got := text(many, false); !strings.HasSuffix(got, "… and 3 more: --all, or fewer --days\n") {
		t.Error(got)
	}
	if got := text(many, true); strings.Contains(got, "more:") {
		t.Error(got)
	}
	if got := text(nil, false); got != "nothing changes by itself in the next 28 days\n" {
		t.Error(got)
	}
}

func TestWeekdays(t *testing.T) {
	for want, on := range map[string][7]bool{
		"daily": {true, true, true, true, true, true, true}, "Mon-Fri": {true, true, true, true, true},
		"Mon, Wed-Thu, Sun": {true, false, true, true, false, false, true}, "Sat-Sun": {5: true, 6: true}, "": {},
	} {
		if got := weekdays(on); got != want {
			t.Errorf("%v is %q, want %q", on, got, want)
		}
	}
}
