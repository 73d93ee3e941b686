package main

import "syscall"

func orphan() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
