package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"enclave/sandbox/client"
)

// The token is one of the server's token file. When ctx ends first, the run is cancelled.
func ExampleClient_Eval() {
	box := &client.Client{URL: "http://127.0.0.1:8460", Token: os.Getenv("TOKEN")}
	var n int
	err := box.Eval(context.Background(), client.Request{
		Code:  `return (await callTool("users:list", {limit: 3})).items.length`,
		Level: "STRICT",
	}, &n)
	var failed *client.Failure  // the script: a code, a sentence, a line and a column
	var refused *client.Refused // the server: a token that is not accepted, too many sessions
	switch {
	case errors.As(err, &failed):
		fmt.Println("the script failed:", failed)
	case errors.As(err, &refused):
		fmt.Println("not run:", refused)
	case err == nil:
		fmt.Println(n)
	}
}

// A session's events come in order and each once, also when the connection drops. Next
// returns io.EOF after the final one.
func ExampleClient_Run() {
	ctx := context.Background()
	box := &client.Client{URL: "http://127.0.0.1:8460", Token: os.Getenv("TOKEN")}
	s, err := box.Run(ctx, client.Request{Code: `console.log("hello"); return 1`})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	for {
		e, err := s.Next(ctx)
		if err != nil {
			return
		}
		fmt.Println(e.Seq, e.Type, string(e.Payload))
	}
}
