package cli

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"enclave/sandbox"
	"enclave/sandbox/jail"
	"enclave/sandbox/pool"
)

func (a *app) sandboxDoctor() *cobra.Command {
	return &cobra.Command{Use: "doctor", Short: "Show which walls this machine gives a script",
		Long: `Starts one worker, runs nothing in it, and shows which walls stand around it. STRICT and
SECURE need the list of system calls, the lock on privileges, the kernel's limits, and
landlock or an empty file system; where one of them is missing they are refused.`,
		Args: exactly(), RunE: func(*cobra.Command, []string) error {
			r, err := pool.Probe()
			if err != nil {
				return &failure{exit: exitRefused, Code: "no_worker", Message: "no worker starts on this machine: " + err.Error()}
			}
			if err := a.print(r, func(w io.Writer) { printDoctor(w, r) }); err != nil {
				return err
			}
			if !r.Enough {
				return &failure{exit: exitRefused, Code: string(sandbox.CodeWalls), Message: "STRICT and SECURE are refused here: missing " + r.Need}
			}
			return nil
		}}
}

func printDoctor(w io.Writer, r pool.Report) {
	rows := [][]string{}
	for _, wall := range jail.All() {
		state := "up"
		if !r.Walls.Has(wall) {
			state = "missing"
		}
		rows = append(rows, []string{state, string(wall), wall.Says()})
	}
	table(w, rows...)
	if r.Why != "" {
		fmt.Fprintf(w, "\nno namespaces: %s\n", clean(r.Why))
	}
	if !r.Walls.Has(jail.NoCaps) && withCgo() {
		fmt.Fprintln(w, "\nthis program was built with cgo, where no call reaches all threads: build it with\nCGO_ENABLED=0, for these walls and for a quicker start of workers")
	}
	fmt.Fprintf(w, "\na worker is ready %v after its start and holds %d MiB\n", r.Start.Round(100*time.Microsecond), r.Memory>>20)
	if r.Group > 0 {
		fmt.Fprintf(w, "all workers together are held by a memory cgroup (version %d), each by the kernel's limits\n", r.Group)
	} else {
		fmt.Fprintf(w, "no memory cgroup: each worker is held by the kernel's limits, all together by nothing (%s)\n", clean(r.NoGroup))
		if _, err := os.Stat("/run/systemd/system"); err == nil { // sd_booted(3)
			fmt.Fprintln(w, "a unit of the user has one: systemd-run --user --scope enclave sandbox …")
		}
	}
	if r.Enough {
		fmt.Fprintln(w, "all levels run here")
	}
	fmt.Fprint(w, "\nprograms that serve tools (MCP on stdio) stand outside these walls: they have those that\ntools.json declares for them, and without any they read what this user may read\n")
}

// withCgo reports whether the program may have been built with cgo.
func withCgo() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "1"})
}
