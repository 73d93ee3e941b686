package proxy_test

import (
	"fmt"

	"enclave/agent/proxy"
)

func Example() {
	f, err := proxy.ParseForward("5432=db.enclave:5432")
	fmt.Println(f, err)
	e, err := proxy.ParseExpose("8080")
	fmt.Println(e, err)
	_, err = proxy.ParseExpose("web=127.0.0.1:9000")
	fmt.Println(err)
	// Output:
	// 127.0.0.1:5432=db.enclave:5432 <nil>
	// 8080=127.0.0.1:8080 <nil>
	// expose "web=127.0.0.1:9000": port "web": want a number from 1 to 65535
}
