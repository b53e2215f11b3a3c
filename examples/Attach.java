// Listens to a connection of siod, asks its server and answers it: java Attach.java [CONNECTION]
//
// Java 17 or newer. Its library has no JSON; the patterns rely on what docs/api.md promises: one message a line, no white
// space between tokens, members in the order that is shown there. Text is printed with its JSON escapes.
// README.md says what happens here, step by step.

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.*;
import java.net.*;
import java.nio.channels.*;
import java.util.regex.*;

class Attach {
    static final String TEXT = "\"((?:[^\"\\\\]++|\\\\.)*+)\"";
    static final Pattern ANSWER = message(
        "'id':(\\d+),(?:'error':\\{.*?'message':TEXT|'result':\\{(?:'subscription':\\d+,'stream':TEXT|'args':(\\[.*]))).*");
    static final Pattern GOODBYE = message("'method':'goodbye','params':\\{'reason':TEXT.*");
    // Behind the last bracket of an event's line there is nothing of the server's.
    static final Pattern NUMBERED = message("'method':'(?:event|lifecycle)','params':\\{'connection':TEXT,'seq':(\\d+),"
        + "'event':TEXT(?:,'args':(\\[.*])(?:[^]]*,'ack':(\\d+))?[^]]*|.*)}}");

    static final PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), true, UTF_8);
    static String connection, stream = "";
    static long last; // The last number heard in that stream, the run of siod.

    static Pattern message(String members) {
        return Pattern.compile("(?s)" + ("\\{'jsonrpc':'2.0'," + members).replace("TEXT", TEXT).replace('\'', '"'));
    }

    public static void main(String[] args) throws InterruptedException {
        connection = (args.length > 0 ? args[0] : "chat").replace("\\", "\\\\").replace("\"", "\\\"");
        var runtime = System.getenv().getOrDefault("XDG_RUNTIME_DIR", "");
        var own = runtime.isEmpty() || System.getProperty("user.name").equals("root") ? "/run/siod" : runtime;
        var path = System.getenv().getOrDefault("SIOD_SOCKET", own + "/siod.sock");
        do {
            try (var siod = SocketChannel.open(UnixDomainSocketAddress.of(path))) {
                attend(siod, new BufferedReader(Channels.newReader(siod, UTF_8)));
            } catch (IOException gone) {
                if (stream.isEmpty()) System.err.printf("no siod at %s (%s): start `siod run`, or set SIOD_SOCKET%n", path, gone.getMessage());
            }
            if (!stream.isEmpty()) Thread.sleep(500);
        } while (!stream.isEmpty() && !out.checkError());
        System.exit(1);
    }

    static void attend(SocketChannel siod, BufferedReader lines) throws IOException {
        ask(siod, "'id':1,'method':'subscribe'", "'after':{'stream':'%s','seq':%d}".formatted(stream, last));
        for (var line = new StringBuilder(); !out.checkError(); line.setLength(0)) {
            for (int c; (c = lines.read()) != '\n'; line.append((char) c)) {
                if (c < 0) return; // The end may have cut off a line, which is none; it will come again.
            }
            Matcher numbered = NUMBERED.matcher(line), answer = ANSWER.matcher(line), goodbye = GOODBYE.matcher(line);
            if (numbered.matches()) {
                long seq = Long.parseLong(numbered.group(2)), missed = seq - last - 1;
                if (missed > 0) System.err.printf("missed %d before %d%n", missed, seq);
                out.println(seq + " " + numbered.group(3) + (numbered.group(4) == null ? "" : " " + numbered.group(4)));
                last = seq;
                if (numbered.group(5) != null) ask(siod, "'method':'ack'", "'ack':%s,'args':['yes']".formatted(numbered.group(5)));
            } else if (goodbye.matches()) {
                System.err.println("siod says goodbye: " + goodbye.group(1));
            } else if (answer.matches() && answer.group(2) != null) {
                System.err.println(answer.group(2));
                if (answer.group(1).equals("1")) return;
            } else if (answer.matches() && answer.group(3) != null) {
                if (stream.isEmpty()) ask(siod, "'id':2,'method':'emit'", "'event':'add','args':[2,3],'ack':true,'timeout':5000");
                if (!stream.equals(answer.group(3))) last = 0;
                stream = answer.group(3);
            } else if (answer.matches() && answer.group(1).equals("2")) {
                out.println("answer " + answer.group(4));
            }
        }
    }

    static void ask(SocketChannel siod, String begin, String params) throws IOException {
        var request = "{%s,'params':{'connection':'%s',%s}}\n".replace('\'', '"');
        siod.write(UTF_8.encode(request.formatted(begin.replace('\'', '"'), connection, params.replace('\'', '"'))));
    }
}
