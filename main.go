// Command enclave runs a whole zero-trust enclave from one executable: control
// plane, relay, agents, and the verbs that manage them.
package main

import (
	"context"
	"os"

	"enclave/cli"
	"enclave/sandbox/pool"
)

func main() {
	// A worker of the sandbox is this program under another name, and nothing of the
	// rest of it is to have happened.
	if pool.IsWorker(os.Args) {
		os.Exit(pool.Work(os.Args))
	}
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Standard()))
}
