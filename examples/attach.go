// Attach listens to a connection of siod, asks its server and answers it: go run attach.go [CONNECTION]
// Go 1.18 or newer and its standard library. README.md says what happens here, step by step.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"time"
)

type object map[string]any
type message struct { // The members that matter here.
	ID                    int
	Method                string
	Error, Result, Params struct {
		Message, Stream, Event, Reason string
		Seq                            int64
		Args                           json.RawMessage
		Ack                            *int64
	}
}

var stream, last = "", map[string]int64{} // The run of siod, and the last number heard in each.

func attend(siod net.Conn, name string) {
	defer siod.Close()
	ask, after := json.NewEncoder(siod).Encode, object{"stream": stream, "seq": last[stream]}
	ask(object{"id": 1, "method": "subscribe", "params": object{"connection": name, "after": after}})
	// A message that the end has cut off is none; it will come again.
	for messages, m := json.NewDecoder(siod), (message{}); messages.Decode(&m) == nil; m = (message{}) {
		switch at := m.Params; {
		case m.Error.Message != "":
			if log.Print(m.Error.Message); m.ID == 1 {
				return
			}
		case m.ID == 1:
			if stream == "" {
				ask(object{"id": 2, "method": "emit", "params": object{
					"connection": name, "event": "add", "args": []int{2, 3}, "ack": true, "timeout": 5000}})
			}
			stream = m.Result.Stream
		case m.ID == 2:
			fmt.Printf("answer %s\n", m.Result.Args)
		case m.Method == "goodbye":
			log.Print("siod says goodbye: ", at.Reason)
		case m.Method == "event", m.Method == "lifecycle":
			if missed := at.Seq - last[stream] - 1; missed > 0 {
				log.Printf("missed %d before %d", missed, at.Seq)
			}
			fmt.Println(strings.TrimSpace(fmt.Sprintf("%d %s %s", at.Seq, at.Event, at.Args)))
			if last[stream] = at.Seq; at.Ack != nil {
				ask(object{"method": "ack", "params": object{"connection": name, "ack": at.Ack, "args": []string{"yes"}}})
			}
		}
	}
}

func main() {
	path, own := os.Getenv("SIOD_SOCKET"), os.Getenv("XDG_RUNTIME_DIR")
	if own == "" || os.Getuid() == 0 {
		own = "/run/siod"
	}
	if path == "" {
		path = own + "/siod.sock"
	}
	for again := true; again; again = stream != "" {
		if siod, err := net.Dial("unix", path); err == nil {
			attend(siod, append(os.Args, "chat")[1])
		} else if stream == "" {
			log.Fatalf("no siod there (%v): start `siod run`, or set SIOD_SOCKET", err)
		}
		time.Sleep(time.Second / 2)
	}
	os.Exit(1)
}
