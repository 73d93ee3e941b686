package demo

import (
	"fmt"
	"io"
	"time"
)

// report prints one line a check and counts them.
type report struct {
	w              io.Writer
	colour         bool
	began          time.Time
	passed, failed int
	stopped        func() bool // the run is to end
}

func (r *report) section(title string) {
	if r.stopped() {
		return
	}
	fmt.Fprintf(r.w, "\n%s\n", r.paint("1", title))
}

func (r *report) note(format string, args ...any) {
	fmt.Fprintf(r.w, "       %s\n", fmt.Sprintf(format, args...))
}

// check runs f and prints what it measured. The word, not the colour, carries the
// verdict.
func (r *report) check(what string, f func() (measured string, err error)) bool {
	if r.stopped() {
		return false
	}
	measured, err := f()
	if r.stopped() {
		return false // Ctrl-C is no verdict
	}
	if err != nil {
		r.failed++
		fmt.Fprintf(r.w, "  %s %s: %v\n", r.paint("31", "FAIL"), what, err)
		return false
	}
	r.passed++
	if measured != "" {
		measured = ": " + measured
	}
	fmt.Fprintf(r.w, "  %s %s%s\n", r.paint("32", "ok  "), what, measured)
	return true
}

func (r *report) close() {
	fmt.Fprintf(r.w, "\n%d passed, %d failed\n", r.passed, r.failed)
}

func (r *report) paint(code, s string) string {
	if !r.colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// ms shows a duration the way people compare them.
func ms(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}
