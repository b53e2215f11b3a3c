#!/usr/bin/env ruby
# Listens to a connection of siod, asks its server and answers it: ruby attach.rb [CONNECTION]
#
# Ruby 3.0 or newer and its standard library. README.md says what happens here, step by step.

require "json"
require "socket"

Position = Struct.new(:stream, :seq)

# One attachment. It moves the position, from which the next one goes on.
class Attached
  def initialize(siod, connection, position)
    @siod, @connection, @position = siod, connection, position
  end

  def attend
    ask :subscribe, { after: @position.to_h }, id: 1
    while (line = next_line)
      hear JSON.parse(line, symbolize_names: true)
    end
  end

  private

  def ask(method, params, **id)
    @siod.puts JSON.generate({ **id, method: method, params: { connection: @connection, **params } })
  rescue SystemCallError # siod is gone, as the next line says too.
  end

  # A line that the end has cut off is none; it will come again.
  def next_line
    line = @siod.gets
    line if line&.end_with?("\n")
  rescue SystemCallError # It is gone.
  end

  def hear(message)
    case message
    in { id: 1, error: { message: why } } then warn(why) || @siod.shutdown
    in { error: { message: why } } then warn why
    in { id: 1, result: { stream: } } then subscribed stream
    in { id: 2, result: { args: } } then puts "answer #{JSON.generate(args)}"
    in { method: "event" | "lifecycle", params: } then number(**params)
    in { method: "goodbye", params: { reason: } } then warn "siod says goodbye: #{reason}"
    else nil # What a newer siod may say.
    end
  end

  def subscribed(stream)
    ask :emit, { event: "add", args: [2, 3], ack: true, timeout: 5000 }, id: 2 if @position.stream.empty?
    @position.stream, @position.seq = stream, 0 if stream != @position.stream
  end

  def number(seq:, event:, args: nil, ack: nil, **)
    missed = seq - @position.seq - 1
    warn "missed #{missed} before #{seq}" if missed.positive?
    puts [seq, event, *(JSON.generate(args) if args)].join(" ")
    @position.seq = seq
    ask :ack, { ack: ack, args: ["yes"] } if ack
  end
end

$stdout.sync = true
runtime = ENV.fetch("XDG_RUNTIME_DIR", "")
path = ENV["SIOD_SOCKET"] || "#{runtime.empty? || Process.uid.zero? ? '/run/siod' : runtime}/siod.sock"
connection = (ARGV[0] || "chat").dup.force_encoding("UTF-8")
position = Position.new("", 0)
loop do
  begin
    siod = UNIXSocket.new(path)
  rescue SystemCallError, ArgumentError => error
    position.stream.empty? && abort("no siod at #{path} (#{error.message}): start `siod run`, or set SIOD_SOCKET")
  else
    Attached.new(siod, connection, position).attend
    siod.close
  end
  position.stream.empty? ? exit(false) : sleep(0.5)
end
