package agent_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"

	"enclave/agent"
	"enclave/agent/link"
)

// A program that is a node of the overlay by itself: it offers a web page there and
// reads one of another system, without a tunnel device and without root.
func Example() {
	a, err := agent.New(agent.Config{
		Name:        "reports",
		Control:     "https://control.example:8443",
		Fingerprint: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", // as "enclave up" printed it
		Key:         func() (string, error) { return os.Getenv("ENCLAVE_ENROLMENT_KEY"), nil },
		Keeper:      agent.FileKeeper(filepath.Join("/var/lib/reports", "agent.json")),
		Network:     link.System(),
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()

	// What listens here is reached by whom a policy lets reach it, and nobody else.
	l, err := a.Listen(ctx, 80)
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, http.FileServer(http.Dir("/srv/reports")))

	// Names are those of the systems that a policy introduces to this one.
	web := &http.Client{Transport: &http.Transport{DialContext: a.DialContext}}
	resp, err := web.Get("http://figures.enclave/today")
	switch {
	case errors.Is(err, agent.ErrDenied):
		fmt.Println("figures is known, but no rule lets us read it")
	case errors.Is(err, agent.ErrUnknownName):
		fmt.Println("no policy introduces figures to us")
	case err == nil:
		resp.Body.Close()
		fmt.Println(resp.Status)
	}

	stop()
	if err := <-ended; errors.Is(err, agent.ErrRevoked) {
		fmt.Println("enrol again, with a new state directory and a new key")
	}
}
