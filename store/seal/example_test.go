package seal_test

import (
	"fmt"
	"time"

	"enclave/store/seal"
)

// A keyring is made for recipients, and what it seals opens in its place only.
func Example() {
	id, _, err := seal.GenerateIdentity()
	if err != nil {
		fmt.Println(err)
		return
	}
	k := seal.NewKeyring("keyring.age", time.Now(), id.Recipient)
	sealed, err := k.Seal("organisation/lab/ca_key", []byte("a secret"))
	if err != nil {
		fmt.Println(err)
		return
	}
	secret, err := k.Open("organisation/lab/ca_key", sealed)
	fmt.Println(string(secret), err)
	_, err = k.Open("organisation/other/ca_key", sealed)
	fmt.Println(err)
	// Output:
	// a secret <nil>
	// a sealed value does not open where it is
}
