// Command enclave runs a whole zero-trust enclave from one executable.
package main

func main() {}
