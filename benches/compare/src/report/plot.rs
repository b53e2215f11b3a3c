//! A plot of lines over a few named places, the height logarithmic, as SVG.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 40.0;

/// Told apart with any colour vision.
const COLOURS: [&str; 6] = ["#0072b2", "#555555", "#e69f00", "#d55e00", "#009e73", "#cc79a7"];

pub(super) struct Chart {
    pub(super) title: String,
    pub(super) ticks: Vec<String>,
    pub(super) series: Vec<Series>,
}

pub(super) struct Series {
    pub(super) name: &'static str,
    /// One for each tick, where it was measured.
    pub(super) values: Vec<Option<f64>>,
}

impl Chart {
    /// Places at which something was measured.
    pub(super) fn points(&self) -> usize {
        let has_value = |tick: &usize| self.series.iter().any(|series| series.values[*tick].is_some());
        (0..self.ticks.len()).filter(has_value).count()
    }

    pub(super) fn svg(&self) -> String {
        let values = || {
            self.series.iter().flat_map(|series| series.values.iter().flatten().copied()).filter(|v| *v > 0.0)
        };
        let lowest = values().fold(f64::INFINITY, f64::min).log10().floor();
        let highest = values().fold(0.0, f64::max).log10().ceil().max(lowest + 1.0);
        let x =
            |tick: usize| LEFT + (WIDTH - LEFT - RIGHT) * tick as f64 / (self.ticks.len() - 1).max(1) as f64;
        let y = |value: f64| {
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value.log10() - lowest) / (highest - lowest)
        };

        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>\n",
            escaped(&self.title)
        );
        let mut line = |text: std::fmt::Arguments<'_>| {
            let _infallible = out.write_fmt(text);
            out.push('\n');
        };
        let mut power = lowest;
        while power <= highest {
            let at = y(10_f64.powf(power));
            line(format_args!(
                "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#dddddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                at + 4.0,
                decade(power)
            ));
            power += 1.0;
        }
        for (tick, name) in self.ticks.iter().enumerate() {
            line(format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                x(tick),
                HEIGHT - BOTTOM + 20.0,
                escaped(name)
            ));
        }
        let mut row = 0.0;
        for (series, colour) in self.series.iter().zip(COLOURS) {
            let points: Vec<(f64, f64)> = (series.values.iter().enumerate())
                .filter_map(|(tick, value)| {
                    value.filter(|value| *value > 0.0).map(|value| (x(tick), y(value)))
                })
                .collect();
            if points.is_empty() {
                continue;
            }
            let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            line(format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" ")
            ));
            for (x, y) in points {
                line(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>"));
            }
            let at = TOP + 10.0 + 20.0 * row;
            line(format_args!(
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{at:.1}\">{}</text>",
                WIDTH - RIGHT + 22.0,
                at - 4.0,
                WIDTH - RIGHT + 32.0,
                escaped(series.name)
            ));
            row += 1.0;
        }
        out.push_str("</svg>\n");
        out
    }
}

fn decade(power: f64) -> String {
    let value = 10_f64.powf(power);
    if value >= 1e6 {
        format!("{:.0} M", value / 1e6)
    } else if value >= 1e3 {
        format!("{:.0} k", value / 1e3)
    } else if value >= 1.0 {
        format!("{value:.0}")
    } else {
        format!("{value}")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_left_out() {
        let series = |name, values: [Option<f64>; 3]| Series { name, values: values.to_vec() };
        let chart = Chart {
            title: "a < b".into(),
            ticks: ["1", "10", "100"].map(str::to_owned).to_vec(),
            series: vec![
                series("all", [Some(10.0), Some(100.0), Some(1000.0)]),
                series("some", [Some(20.0), None, None]),
                series("none", [None, None, None]),
            ],
        };
        assert_eq!(chart.points(), 3);
        let svg = chart.svg();
        assert!(svg.contains("a &lt; b") && svg.contains(">some<") && !svg.contains(">none<"));
        // The lowest stands on the axis, the highest at the top.
        assert!(svg.contains("points=\"90.0,340.0 310.0,192.0 530.0,44.0\""), "{svg}");
    }
}
