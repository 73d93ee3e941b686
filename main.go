// Command enclave runs a whole zero-trust enclave from one executable: control
// plane, relay, agents, and the verbs that manage them.
package main

import (
	"context"
	"os"

	"enclave/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Standard()))
}
