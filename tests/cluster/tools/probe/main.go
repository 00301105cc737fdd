// Command probe is what test pods run: it answers on ports, and tries to reach others when asked from its own node.
//
//	probe -listen tcp/80,udp/81 -ask 8079    answer with this host's name; GET :8079/reach?to=tcp/10.0.0.1:80
//	probe -reach tcp/10.0.0.1:80,udp/...     say who answered there
//	PORT=8080 probe                          answer HTTP, as a Knative service does
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

const patience = 700 * time.Millisecond

func main() {
	listen := flag.String("listen", "", "ports to answer on")
	ask := flag.String("ask", "", "port to be asked on")
	at := flag.String("at", "", "address to be asked on")
	targets := flag.String("reach", "", "what to try to reach")
	flag.Parse()
	if *targets != "" {
		json.NewEncoder(os.Stdout).Encode(all(strings.Split(*targets, ",")))
		return
	}
	for _, one := range strings.FieldsFunc(*listen, func(r rune) bool { return r == ',' }) {
		network, port, _ := strings.Cut(one, "/")
		if network == "udp" {
			go echoPackets(port)
		} else {
			go answer(port)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/reach", func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(all(r.URL.Query()["to"]))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello from %s\n", name()) })
	port := *ask
	if given := os.Getenv("PORT"); given != "" {
		port = given
	}
	log.Fatal(http.ListenAndServe(*at+":"+port, mux))
}

func name() string {
	host, _ := os.Hostname()
	return host
}

func answer(port string) {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		log.Fatal(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer connection.Close()
			fmt.Fprint(connection, name())
		}()
	}
}

func echoPackets(port string) {
	packets, err := net.ListenPacket("udp", ":"+port)
	if err != nil {
		log.Fatal(err)
	}
	buffer := make([]byte, 64)
	for {
		if _, from, err := packets.ReadFrom(buffer); err == nil {
			packets.WriteTo([]byte(name()), from)
		}
	}
}

// all tries every target at once and returns who answered there, or "" for nobody.
func all(targets []string) map[string]string {
	found := map[string]string{}
	var lock sync.Mutex
	var waiting sync.WaitGroup
	for _, target := range targets {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			said := dial(target)
			lock.Lock()
			defer lock.Unlock()
			found[target] = said
		}()
	}
	waiting.Wait()
	return found
}

func dial(target string) string {
	network, address, _ := strings.Cut(target, "/")
	connection, err := net.DialTimeout(strings.Replace(network, "http", "tcp", 1), address, patience)
	if err != nil {
		return ""
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(patience))
	if network == "udp" {
		fmt.Fprint(connection, "who")
	} else if network == "http" {
		fmt.Fprint(connection, "GET / HTTP/1.0\r\n\r\n")
	}
	if network != "udp" {
		said, _ := io.ReadAll(io.LimitReader(connection, 1024))
		return string(said)
	}
	buffer := make([]byte, 64)
	size, err := connection.Read(buffer)
	if err != nil {
		return ""
	}
	return string(buffer[:size])
}
