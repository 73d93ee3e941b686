package frame_test

import (
	"bytes"
	"fmt"

	"enclave/wire/frame"
)

// What an agent writes to meet bob, and how the other side reads it.
func Example() {
	bob, _ := frame.IDOf("bob00")
	b := frame.AppendHello(nil, frame.Version)
	b, _ = frame.AppendOpen(b, []byte("a ticket from control"))
	b, _ = frame.AppendSend(b, bob, []byte("sealed packet"))

	for r := frame.NewReader(bytes.NewReader(b)); ; {
		t, body, err := r.Next()
		if err != nil {
			break
		}
		fmt.Println(t, len(body))
	}
	// Output:
	// hello 1
	// open 21
	// send 18
}
